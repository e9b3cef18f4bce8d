from __future__ import annotations


def waitKeys(keyList: list[str]) -> list[str]:
    return keyList[:1]


def getKeys(keyList: list[str]) -> list[str]:
    return []
