"""The table of docs/formats.md that says which drafter goes into which dialect: every cell is tried."""
import json
import os
import re
import shutil
import struct
import tempfile

from cli import ROOT, CliTest, main

GOLDEN = os.path.join(ROOT, "tests", "golden")
REDUCED = 100


def read_tensors(folder):
    """(header, data) of model.safetensors."""
    with open(os.path.join(folder, "model.safetensors"), "rb") as file:
        data = file.read()
    begin = 8 + struct.unpack_from("<Q", data)[0]
    return json.loads(data[8:begin]), data[begin:]


def write_tensors(folder, tensors):
    """tensors: {name: (dtype, shape, bytes)}"""
    header, parts, at = {}, [], 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        parts.append(data)
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(folder, "model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(parts))


class Dialects(CliTest):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def copy(self, name, change):
        """The drafter of a golden case with another configuration."""
        folder = os.path.join(self.folder, "source")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(os.path.join(GOLDEN, name, "draft"), folder)
        path = os.path.join(folder, "config.json")
        with open(path) as file:
            config = json.load(file)
        config = change(config) or config
        with open(path, "w") as file:
            json.dump(config, file)
        return folder

    def original_dflash(self):
        def change(config):
            config["architectures"] = ["DFlashDraftModel"]
            config["dflash_config"] = {key: config.pop(key) for key in ("mask_token_id", "target_layer_ids")}

        return self.copy("random-dflash", change)

    def causal_windows(self):
        def change(config):
            taps = [layer + 1 for layer in config["target_layer_ids"]]
            layers = dict(config, layer_types=["sliding_attention"] * config["num_hidden_layers"], sliding_window=16, use_sliding_window=True)
            return {"speculators_model_type": "dflash", "transformer_layer_config": layers, "aux_hidden_state_layer_ids": taps, "sample_from_anchor": True,
                    "block_size": config["block_size"], "mask_token_id": config["mask_token_id"], "draft_vocab_size": config["vocab_size"]}

        return self.copy("random-dflash", change)

    def reduced_vocabulary(self):
        folder = self.copy("random-eagle3", lambda config: None)
        header, data = read_tensors(folder)
        tensors = {}
        header.pop("__metadata__", None)
        for name, t in header.items():
            begin, end = t["data_offsets"]
            tensors[name] = (t["dtype"], t["shape"], data[begin:end])
        dtype, (_, cols), head = tensors["lm_head.weight"]
        tensors["lm_head.weight"] = (dtype, [REDUCED, cols], head[:2 * REDUCED * cols])
        tensors["d2t"] = ("I64", [REDUCED], struct.pack(f"<{REDUCED}q", *range(REDUCED)))  # ids 0, 2, 4, ..
        write_tensors(folder, tensors)
        return folder

    def rows(self):
        """[(drafter, {layout: cell})] of the table."""
        with open(os.path.join(ROOT, "docs", "formats.md"), encoding="utf-8") as file:
            table = file.read().split("| drafter | deepspec | speculators | gguf |\n|---|---|---|---|\n")[1].split("\n\n")[0]
        for line in table.splitlines():
            name, *cells = [cell.strip() for cell in line.strip("|").split("|")]
            yield name, dict(zip(("deepspec", "speculators", "gguf"), cells))

    SOURCES = {"DSpark, vanilla head": "random-dspark-vanilla", "DSpark, gated head": "random-dspark-gated", "DSpark, rnn head": "random-dspark-rnn",
               "DSpark, no confidence head": "random-dspark-noconf", "DSpark, confidence head alone": "random-dspark-conf-nomarkov",
               "DSpark, Gemma 4": "random-dspark-gemma4", "DFlash": "random-dflash", "DFlash, original form": "original_dflash",
               "DFlash, sliding layers causal within a block": "causal_windows", "Eagle3": "random-eagle3", "Eagle3, Gemma 4": "random-eagle3-gemma4",
               "Eagle3, reduced vocabulary": "reduced_vocabulary"}
    CASES = {"original_dflash": "random-dflash", "causal_windows": "random-dflash", "reduced_vocabulary": "random-eagle3"}

    def check(self, target, drafter):
        return self.expect(0, "check", "-m", target, "-d", drafter, "--json").json()["drafter"]

    def test_every_cell_of_the_table_is_what_convert_and_check_say(self):
        rows = dict(self.rows())
        self.assertEqual(set(rows), set(self.SOURCES))
        for name, cells in rows.items():
            key = self.SOURCES[name]
            case = self.CASES.get(key, key)
            source = getattr(self, key)() if key in self.CASES else os.path.join(GOLDEN, case, "draft")
            target = os.path.join(GOLDEN, case, "target")
            before = self.check(target, source)
            for layout, cell in cells.items():
                with self.subTest(drafter=name, layout=layout):
                    self.try_cell(target, source, before, layout, cell)

    def try_cell(self, target, source, before, layout, cell):
        out = os.path.join(self.folder, "out")
        shutil.rmtree(out, ignore_errors=True)
        command = ["convert", source, out, "--type", "bf16", "--layout", layout, "--target", target]
        refusal = re.fullmatch(r"refused: (.*)", cell)
        if refusal:
            self.expect(1, *command, says=refusal.group(1))
            self.assertFalse(os.path.exists(out))
            return
        self.assertEqual(cell, "read, written")
        self.expect(0, *command)
        after = self.check(target, out)
        self.assertEqual(after["dialect"], layout)
        for key in before:
            if key in ("dialect", "rope", "tokenizer", "path") or (key == "block_size" and before["kind"] == "eagle3" and layout == "speculators"):
                continue
            self.assertEqual(after[key], before[key], key)
        if os.path.isfile(out):
            os.remove(out)


if __name__ == "__main__":
    main()
