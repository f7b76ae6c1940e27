"""Anything else that infers: time a function, an async function, or the stages of an answer.

Run: ``python examples/any_callable.py``.
"""

import asyncio

import numpy as np

from device_sdk import Monitor

monitor = Monitor(resource={"edge.device.tier": "example"})
WEIGHTS = np.random.default_rng(1).normal(size=(64, 10))


@monitor.measure("scorer", "1")
def score(image: np.ndarray) -> np.ndarray:
    """Run a model of our own."""
    return image @ WEIGHTS


@monitor.measure("remote", "1")
async def ask(image: np.ndarray) -> int:
    """Wait for somebody else's answer."""
    await asyncio.sleep(0)
    return int(image.sum())


async def many(images: np.ndarray) -> None:
    """Ask for all at once: runs may overlap."""
    await asyncio.gather(*(ask(image) for image in images))


photos = np.random.default_rng(2).integers(0, 256, (100, 64)).astype(np.uint8)
for photo in photos:
    with monitor.pipeline("scorer", "1") as answer:  # end to end: what the user waits for
        with answer.pre:
            scaled = photo / 255
        with answer.run:
            scores = score(scaled)
        with answer.post:
            best = int(scores.argmax())
    monitor.outcome("scorer", version="1", correct=best < 5)  # where the truth becomes known
asyncio.run(many(photos))

print("sent" if monitor.flush() else "kept on this device until the collector answers")
monitor.close()
