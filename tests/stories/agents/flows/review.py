"""A draft, a human decision, a result. The last line runs the flow, and nothing guards it."""

from pathlib import Path

from kitaru import checkpoint, flow, wait


@checkpoint
def research(topic: str) -> list[str]:
    Path("researched.txt").write_text(topic)
    return [f"What they are: {topic}", "Why they matter"]


@checkpoint
def write(topic: str, points: list[str]) -> str:
    return "\n".join([f"# {topic}", *points])


@flow
def review_flow(topic: str) -> str:
    draft = write(topic, research(topic))
    approved = wait(name="approve_draft", question="Publish this?", schema=bool)
    return draft if approved else "Rejected"


review_flow.run(topic="Durable agents").wait()
