"""Run in circuit-tracer's own environment: `check_circuit_tracer.py INDEX DATA LATENT…`.

Validates every record of an index with circuit-tracer's model of one, writes a graph with the
latents as its nodes to DATA, and serves circuit-tracer's page on 127.0.0.1 until its input ends.
Prints how many records are valid, then the port, each on a line.
"""

import functools
import gzip
import http.server
import json
import sys
import threading
import zlib
from itertools import pairwise
from pathlib import Path

from circuit_tracer.frontend.feature_models import Model as Feature  # pyright: ignore
from circuit_tracer.frontend.graph_models import Metadata, Model, Node, QParams  # pyright: ignore
from circuit_tracer.frontend.local_server import DEFAULT_FRONTEND_DIR, CircuitGraphHandler  # pyright: ignore
from circuit_tracer.frontend.utils import add_graph_metadata  # pyright: ignore

SCAN, SLUG = "someone/latents", "made-up"


def validated(index: Path) -> tuple[int, int]:
    """The layer, and how many of its records are valid."""
    layers = json.loads(gzip.decompress((index / "features" / "index.json.gz").read_bytes()))
    ((layer, entry),) = layers.items()
    content = (index / "features" / entry["filename"]).read_bytes()
    starts = entry["offsets"]
    for start, stop in pairwise(starts):
        length = int.from_bytes(content[start : start + 4], "little")
        assert length == stop - start - 4
        Feature.model_validate_json(zlib.decompress(content[start + 4 : stop]), strict=True)
    return int(layer), len(starts) - 1


def write_graph(data: Path, layer: int, latents: list[int]) -> None:
    """A graph of one token, the latents and one output."""
    features = [Node.feature_node(layer, 1, i, influence=0.5, activation=1.5) for i in latents]
    token = Node.token_node(1, 5, influence=0.5)
    output = Node.logit_node(1, 7, " b", layer + 1, target_logit=True, token_prob=0.5)
    links = [{"source": token.node_id, "target": f.node_id, "weight": 1.0} for f in features]
    links += [{"source": f.node_id, "target": output.node_id, "weight": 1.0} for f in features]
    metadata = Metadata(
        slug=SLUG, scan=SCAN, transcoder_list=[], prompt_tokens=["<bos>", " a"], prompt="<bos> a"
    )
    clicked = features[0].node_id
    q = QParams(pinnedIds=[], supernodes=[], linkType="both", clickedId=clicked, sg_pos="")
    graph = Model(metadata=metadata, qParams=q, nodes=[token, *features, output], links=links)
    (data / f"{SLUG}.json").write_text(graph.model_dump_json())
    add_graph_metadata(metadata.model_dump(), str(data))


def main() -> None:
    index, data, *latents = sys.argv[1:]
    layer, n = validated(Path(index))
    print(n, flush=True)
    write_graph(Path(data), layer, [int(i) for i in latents])
    handler = functools.partial(
        CircuitGraphHandler, frontend_dir=DEFAULT_FRONTEND_DIR, data_dir=data
    )
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()
    server.shutdown()


if __name__ == "__main__":
    main()
