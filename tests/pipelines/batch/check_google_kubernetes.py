"""Reads rendered jobs with Google's own parser and Kubernetes' schemas, in their own environment:
`python check_google_kubernetes.py FOLDER`; ends with an error for the first that is refused."""

import sys
from pathlib import Path

import kubernetes_validate  # pyright: ignore[reportMissingImports]
import yaml
from google.cloud import batch_v1  # pyright: ignore

KUBERNETES = ("1.29", "1.33")

n = 0
for path in sorted(Path(sys.argv[1]).rglob("*")):
    if path.suffix == ".json":
        batch_v1.Job.from_json(path.read_text(encoding="utf-8"))
        n += 1
    elif path.suffix == ".yaml":
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            for version in KUBERNETES:
                kubernetes_validate.validate(document, version, strict=True)
            n += 1
print(n)
