"""The section of the report on the commands, versions and hashes behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shaperun.common.text import format_command
from shaperun.report.data import ReportData

Context = dict[str, Any]


def make_provenance(data: ReportData) -> Context:
    """Return the commands, versions, hashes and configuration behind the report."""
    # A trial that finished before pruning was turned on may be pruned now.
    done = [s for s in data.all_statuses if s.state == "done" and s.arm in data.study.arms]
    records = [data.records[status.arm, status.seed] for status in done]
    file = data.file or data.study.study
    options = ["--allow-code"] if data.study.code_references else []
    verbs = ["train", *(["sweep"] if data.study.sweep else []), "report"]
    return {
        "seeds": sorted({status.seed for status in done}),
        "resolved": data.resolved,
        "versions": _merge_versions(records),
        "hashes": [
            {
                "arm": status.arm,
                "seed": status.seed,
                "identity": str(record.get("identity")),
                "files": {
                    name: str(digest) for name, digest in (record.get("files") or {}).items()
                },
            }
            for status, record in zip(done, records, strict=True)
        ],
        "commands": [format_command(verb, file, *options) for verb in verbs],
    }


def _merge_versions(records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the versions behind the runs, with all values where runs differ."""
    versions: dict[str, dict[str, None]] = {}
    for record in records:
        facts = {
            **(record.get("versions") or {}),
            "platform": record.get("platform"),
            "git revision of the working folder": record.get("git_revision"),
        } | {f"SHA-256 of {name}": digest for name, digest in (record.get("code") or {}).items()}
        known = {key: value for key, value in facts.items() if value is not None}
        for key, value in known.items():
            versions.setdefault(key, {})[str(value)] = None
    return {key: ", ".join(values) for key, values in versions.items()}
