# SPDX-License-Identifier: Apache-2.0
"""Writes the corpus of the onnx target: small networks of tests/importer/networks.py.

    make_onnx_corpus.py FOLDER
"""

import os
import sys

import onnx

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/importer"))
import networks  # noqa: E402

LIMIT = 6000  # bytes: small inputs are mutated to more effect


def main():
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    chosen = ("_11", "_18")
    for name, model in networks.all_networks(random_count=12):
        if not name.endswith(chosen) and not name.startswith("window"):
            continue
        del model.graph.value_info[:]
        data = model.SerializeToString()
        if len(data) <= LIMIT:
            with open(os.path.join(folder, name + ".onnx"), "wb") as file:
                file.write(data)


if __name__ == "__main__":
    main()
