"""What a flow reads and imports after it has waited is its own snapshot's, too."""

from pathlib import Path

from kitaru import flow, wait

OPENING = "Dear v1"


@flow
def letter() -> list[str]:
    wait(name="post", schema=bool)
    from wording import CLOSING

    return [OPENING, Path("data/motto.txt").read_text().strip(), CLOSING]
