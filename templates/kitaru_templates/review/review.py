# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""A draft, a human decision, a result. The smallest flow that shows what Kitaru does."""

from kitaru import checkpoint, flow, wait


@checkpoint
def research(topic: str) -> list[str]:
    """What to say about it. This is where a model, a search or a database goes."""
    return [f"What they are: {topic}", "Why they matter", "How to begin"]


@checkpoint
def write(topic: str, points: list[str]) -> str:
    return "\n".join([f"# {topic}", *(f"- {point}" for point in points)])


@flow
def review_flow(topic: str) -> str:
    """The draft, if a human says yes; "Rejected" otherwise."""
    draft = write(topic, research(topic))
    approved = wait(name="approve_draft", question=f"Publish this?\n\n{draft}", schema=bool)
    return draft if approved else "Rejected"


# `python review.py` runs the flow here. `kitaru deploy` imports this file too, and starts nothing.
review_flow.run(topic="Durable agents").wait()
