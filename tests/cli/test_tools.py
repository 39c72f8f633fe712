"""tokenize, logits, inspect, devices: what they print and write."""
import json
import os
import struct
import tempfile

from cli import DRAFTER, TARGET, CliTest, dspark, main

TEXTS = ["Hello there", "", "<|im_start|>user\n", "na\u00efve \U0001f600\u200d\u2642", "a\u0000b", "  \n\t ", "x" * 3000]


def as_lines(values):
    return "".join(json.dumps(value) + "\n" for value in values).encode()


def from_lines(text):
    return [json.loads(line) for line in text.splitlines()]


class Tokenize(CliTest):
    def test_decoding_gives_the_text_back(self):
        for args in [], ["--no-special"]:
            ids = self.expect(0, "tokenize", "-m", TARGET, *args, stdin=as_lines(TEXTS)).out
            back = self.expect(0, "tokenize", "-m", TARGET, "--decode", stdin=ids.encode()).out
            self.assertEqual(from_lines(back), TEXTS)

    def test_special_tokens_are_text_with_no_special(self):
        special = from_lines(self.expect(0, "tokenize", "-m", TARGET, stdin=as_lines(["<|im_end|>"])).out)
        plain = from_lines(self.expect(0, "tokenize", "-m", TARGET, "--no-special", stdin=as_lines(["<|im_end|>"])).out)
        self.assertEqual(special, [[4092]])
        self.assertGreater(len(plain[0]), 1)
        skipped = self.expect(0, "tokenize", "-m", TARGET, "--decode", "--skip-special", stdin=b"[4092]\n").out
        self.assertEqual(from_lines(skipped), [""])

    def test_a_tokenizer_file_alone_will_do(self):
        path = os.path.join(TARGET, "tokenizer.json")
        self.assertEqual(dspark("tokenize", "-m", path, stdin=as_lines(TEXTS)).out, dspark("tokenize", "-m", TARGET, stdin=as_lines(TEXTS)).out)

    def test_a_bad_line_is_named_and_exits_with_1(self):
        for bad in b"Hello\n", b"[1]\n", b'"a" "b"\n', b'"a\n':
            with self.subTest(bad=bad):
                self.expect(1, "tokenize", "-m", TARGET, stdin=b'"fine"\n' + bad, says="line 2")
        for bad in b'"a"\n', b"[1.5]\n", b"[-1]\n", b"[null]\n", b"[99999999999]\n", b"{}\n":
            with self.subTest(bad=bad):
                self.expect(1, "tokenize", "-m", TARGET, "--decode", stdin=b"[1]\n" + bad, says="line 2")


def read_safetensors(path):
    with open(path, "rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(size))
        data = file.read()
    header.pop("__metadata__", None)
    return header, data


class Logits(CliTest):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.path = os.path.join(self.folder, "out.safetensors")

    def logits(self, *args):
        self.expect(0, "logits", "-m", TARGET, "-o", self.path, *args)
        return read_safetensors(self.path)

    def test_the_file_has_the_documented_arrays(self):
        header, data = self.logits("--tokens", "5,6,7", "--hidden")
        self.assertEqual(sorted(header), sorted(["logits"] + [f"hidden.{layer}" for layer in range(9)]))
        self.assertEqual(header["logits"]["shape"], [3, 4096])
        for layer in range(9):
            self.assertEqual(header[f"hidden.{layer}"]["shape"], [3, 256])
        self.assertEqual({array["dtype"] for array in header.values()}, {"F32"})
        self.assertEqual(max(array["data_offsets"][1] for array in header.values()), len(data))

    def test_the_last_row_is_the_last_of_all_rows(self):
        all_header, all_data = self.logits("--tokens", "5,6,7")
        header, data = self.logits("--tokens", "5,6,7", "--rows", "last")
        self.assertEqual(list(header), ["logits"])
        self.assertEqual(header["logits"]["shape"], [1, 4096])
        self.assertEqual(data, all_data[2 * 4096 * 4:])

    def test_the_best_logit_is_the_token_that_run_chooses(self):
        _, data = self.logits("--tokens", "5,6,7", "--rows", "last")
        row = struct.unpack("<4096f", data)
        best = max(range(4096), key=lambda i: (row[i], -i))
        self.assertEqual(self.run_json("--tokens", "5,6,7", "-n", "1")["tokens"], [best])

    def test_chunks_and_threads_change_no_bit(self):
        tokens = ",".join(str(i) for i in range(1, 71))
        expected = self.logits("--tokens", tokens, "--hidden")[1]
        for args in ["--chunk", "1"], ["--chunk", "9"], ["--threads", "1"], ["--threads", "3"]:
            with self.subTest(args=args):
                self.assertEqual(self.logits("--tokens", tokens, "--hidden", *args)[1], expected)

    def test_a_failure_leaves_no_file_behind(self):
        self.expect(1, "logits", "-m", TARGET, "--tokens", "5,6,7", "--ctx", "2", "-o", self.path, says=["3", "2", "--ctx"])
        self.expect(1, "logits", "-m", TARGET, "--tokens", "5", "-o", os.path.join(self.folder, "absent", "x"), says="absent")
        self.assertEqual(os.listdir(self.folder), [])

    def test_a_success_leaves_nothing_but_the_file(self):
        self.logits("--tokens", "5")
        self.assertEqual(os.listdir(self.folder), ["out.safetensors"])


class Inspect(CliTest):
    def test_it_prints_a_summary_and_json(self):
        for path in TARGET, DRAFTER:
            self.assertIn("safetensors", self.expect(0, "inspect", path).out)
            self.assertIsInstance(self.expect(0, "inspect", path, "--json").json(), dict)

    def test_a_file_that_is_no_checkpoint_is_refused(self):
        self.expect(1, "inspect", "/nonexistent", says="/nonexistent")
        self.expect(1, "inspect", "/dev/null", says="/dev/null")


class Devices(CliTest):
    def test_the_cpu_is_there_and_exact(self):
        devices = self.expect(0, "devices", "--json").json()
        names = [device["name"] for device in devices]
        self.assertIn("cpu", names)
        self.assertEqual(len(names), len(set(names)))
        for device in devices:
            self.assertEqual(list(device), ["name", "description", "memory_bytes", "exact", "note", "fast"])
        self.assertTrue(devices[names.index("cpu")]["exact"])

    def test_the_table_lists_the_same_devices(self):
        table = self.expect(0, "devices").out
        for device in self.expect(0, "devices", "--json").json():
            self.assertIn("\n" + device["name"] + " ", table)

    def test_every_device_gives_the_same_tokens(self):
        expected = self.run_json("-p", "Hello", "-n", "12")["tokens"]
        for device in self.expect(0, "devices", "--json").json():
            if device["exact"]:
                with self.subTest(device=device["name"]):
                    self.assertEqual(self.run_json("-p", "Hello", "-n", "12", "--device", device["name"])["tokens"], expected)


if __name__ == "__main__":
    main()
