#!/usr/bin/env python3
"""Counts the cases in ctest's JUnit reports and prints "N passed, N failed, N skipped".

A GoogleTest or pytest program counts with the cases it reports, any other test as one. Exits 1
where a case failed, a report is missing or nothing ran at all.
"""

import re
import sys
import xml.etree.ElementTree as ElementTree

_GOOGLETEST = re.compile(r"^\[  (PASSED|FAILED|SKIPPED) \s*\] (\d+) tests?[.,]", re.MULTILINE)
_PYTEST_SUMMARY = re.compile(r"^=*\s*((?:\d+ \w+,? ?)+)in [\d.]+s", re.MULTILINE)
_PYTEST_COUNT = re.compile(r"(\d+) (passed|failed|skipped|errors?)")
_KIND = {"error": "failed", "errors": "failed"}


def count_cases(output: str, status: str) -> dict[str, int]:
    """The cases of one test program, from what it printed and ctest's word on it."""
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for kind, number in _GOOGLETEST.findall(output):
        counts[kind.lower()] += int(number)
    for summary in _PYTEST_SUMMARY.findall(output)[-1:]:
        for number, kind in _PYTEST_COUNT.findall(summary):
            counts[_KIND.get(kind, kind)] += int(number)
    if status == "fail" and counts["failed"] == 0:
        counts["failed"] = 1  # it crashed or ran out of time
    elif sum(counts.values()) == 0:
        counts["passed" if status == "run" else "skipped"] = 1
    return counts


def main(reports: list[str]) -> int:
    total = {"passed": 0, "failed": 0, "skipped": 0}
    for report in reports:
        for case in ElementTree.parse(report).iter("testcase"):
            counts = count_cases(case.findtext("system-out", ""), case.get("status", ""))
            for kind, number in counts.items():
                total[kind] += number
    print(", ".join(f"{number} {kind}" for kind, number in total.items()))
    return 1 if total["failed"] or not total["passed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
