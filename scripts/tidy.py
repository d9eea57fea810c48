#!/usr/bin/env python3
"""Style as a test: arrows between targets point down, functions fit a screen, files hold one idea."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
# What each target may import of ours.
ALLOWED = {
    "Resource": set(),
    "Disk": {"CLinux", "Resource"},
    "S3": {"CLinux", "CTLS", "Disk", "Resource"},
    "Containers": {"CLinux", "Disk", "Resource"},
    "ControlPlane": {"CLinux", "Containers", "Disk", "Resource", "S3"},
    "Gateway": {"ControlPlane", "Disk", "Resource", "S3"},
    "roost": {"ControlPlane", "Containers", "Disk", "Gateway", "Resource", "S3"},
    "roost-monitor": {"CLinux"},
}
# Heavy dependencies and the one target each belongs to (the executable wires everything).
HOME = {"Hummingbird": {"Gateway"}, "GRDB": {"ControlPlane"}, "Subprocess": {"Disk"}, "Crypto": {"Containers", "ControlPlane", "S3"},
        "AsyncHTTPClient": {"ControlPlane", "S3", "roost"}, "ArgumentParser": {"roost"}}
FUNCTION_LINES = 70
FILE_LINES = 500
OURS = set(ALLOWED) | {"CLinux", "CTLS"}
problems = []

for file in sorted((ROOT / "Sources").rglob("*.swift")):
    target = file.relative_to(ROOT / "Sources").parts[0]
    name = file.relative_to(ROOT)
    lines = file.read_text().splitlines()
    if len(lines) > FILE_LINES:
        problems.append(f"{name}: {len(lines)} lines, more than {FILE_LINES}")
    for number, line in enumerate(lines, 1):
        if found := re.match(r"\s*(?:@\w+ )?import (\w+)", line):
            module = found.group(1)
            if module in OURS and module not in ALLOWED[target]:
                problems.append(f"{name}:{number}: {target} must not import {module}")
            if module in HOME and target not in HOME[module]:
                problems.append(f"{name}:{number}: {module} belongs to {', '.join(HOME[module])}")
        if re.search(r"\btry!|\bas! |fatalError\(|preconditionFailure\(|\bprint\(", line) and target not in ("roost",) \
                and not line.strip().startswith("//"):
            problems.append(f"{name}:{number}: traps and print have no place here: {line.strip()}")
        if re.match(r"\s*(?:[\w@()]+ )*(?:func|init)\b", line):
            indent = len(line) - len(line.lstrip())
            for end in range(number, len(lines)):
                if lines[end].startswith(" " * indent + "}"):
                    if end - number + 2 > FUNCTION_LINES:
                        problems.append(f"{name}:{number}: a function of {end - number + 2} lines, more than {FUNCTION_LINES}")
                    break
                if len(lines[end]) - len(lines[end].lstrip()) <= indent and lines[end].strip() \
                        and not lines[end].strip().startswith((")", "_", "{", "where")):
                    break

if problems:
    print("\n".join(problems))
    sys.exit(f"tidy: {len(problems)} problems")
print("tidy: targets, functions and files are in order")
