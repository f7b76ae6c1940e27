"""What kind of device this is, from the device tree, the firmware's tables or the processor's own name.

Only words that all devices of one kind share: serial numbers, asset tags and UUIDs are never opened.
"""

from __future__ import annotations

import re
from typing import Final

from device_sdk.contract import attributes as a
from device_sdk.host.tree import Tree

_TREE: Final = "proc/device-tree/"
_DMI: Final = "sys/class/dmi/id/"
_LENGTH_MAX: Final = 64
_NO_ANSWER: Final = re.compile(
    r"to be filled|o\.?e\.?m\.?$|default string|not (specified|applicable|available|set)|"
    r"system (product|manufacturer|version)|unknown|undefined|none$|n/?a$|invalid|^[\W0]*$|^0x0*$|type1product",
    re.IGNORECASE,
)
_TRADE_MARKS: Final = re.compile(
    r"\((r|tm)\)|\bcpu\b|\bprocessor\b|@.*|\b\d+-core\b|\bwith radeon.*|\b\d+(th|nd|rd) gen\b", re.IGNORECASE
)
_MAKERS: Final = {
    "raspberrypi": "Raspberry Pi", "nvidia": "NVIDIA", "radxa": "Radxa", "xunlong": "Xunlong", "pine64": "Pine64",
    "hardkernel": "Hardkernel", "google": "Google", "ti": "Texas Instruments", "fsl": "NXP", "nxp": "NXP",
    "toradex": "Toradex", "qcom": "Qualcomm", "friendlyarm": "FriendlyElec", "beagle": "BeagleBoard.org",
}  # fmt: skip
"""Makers by the device tree's vendor prefix; a prefix that is not here is told as it is."""


def hardware_facts(tree: Tree) -> dict[str, str]:
    """Return chipset, model and manufacturer as resource attributes, as far as the machine says them."""
    compatible = [entry for entry in (tree.text(_TREE + "compatible") or "").split("\0") if "," in entry]
    told = _from_device_tree(tree, compatible) if compatible else _from_firmware(tree)
    told.setdefault(a.CHIPSET, _processor(tree))
    return {key: value for key, value in told.items() if value}


def _from_device_tree(tree: Tree, compatible: list[str]) -> dict[str, str]:
    """Read the root's ``compatible``: the board first, the chip last."""
    vendor = compatible[0].partition(",")[0]
    return {
        a.CHIPSET: _clean(compatible[-1].partition(",")[2]),
        a.DEVICE_MODEL: _clean(tree.text(_TREE + "model")),
        a.DEVICE_MANUFACTURER: _MAKERS.get(vendor, _clean(vendor)),
    }


def _from_firmware(tree: Tree) -> dict[str, str]:
    maker = _clean(tree.text(_DMI + "sys_vendor")) or _clean(tree.text(_DMI + "board_vendor"))
    model = _clean(tree.text(_DMI + "product_name")) or _clean(tree.text(_DMI + "board_name"))
    return {a.DEVICE_MANUFACTURER: maker, a.DEVICE_MODEL: model}


def _processor(tree: Tree) -> str:
    """Return the first processor's name without trade marks and clock, or what an old ARM kernel calls the hardware."""
    lines = (tree.text("proc/cpuinfo", 1 << 16) or "").splitlines()
    told = [(key.strip().lower(), value) for key, colon, value in (line.partition(":") for line in lines) if colon]
    for wanted in ("model name", "hardware", "uarch"):
        for key, value in told:
            name = _clean(_TRADE_MARKS.sub(" ", value)) if key == wanted else ""
            if name:
                return name
    return ""


def _clean(text: str | None) -> str:
    """Return printable text of at most 64 characters, empty for a placeholder."""
    printable = "".join(letter if letter.isprintable() else " " for letter in text or "")
    words = " ".join(printable.split())
    return "" if not words or _NO_ANSWER.search(words) else words[:_LENGTH_MAX].rstrip()
