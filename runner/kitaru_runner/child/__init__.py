"""The process of an execution, and others that import its code."""
