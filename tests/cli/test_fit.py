"""`llamalab fit`: the largest that fits."""

import csv
import io

from tests.cli.calls import Capture, loaded, printed, refused


def test_free_memory_without_weights(capsys: Capture) -> None:
    data = loaded(capsys, "fit", "--free", "10GB", "--dtype", "fp16")
    assert data["max_tokens"] == 19_073
    assert (data["free_bytes"], data["weight_bytes"], data["memory_bytes"]) == (10**10, None, None)
    assert printed(capsys, "fit", "--free", "10GB", "--dtype", "fp16").startswith("19,073 cached tokens fit (7b,")


def test_tokens_beside_the_weights(capsys: Capture) -> None:
    data = loaded(capsys, "fit", "--memory", "24GiB")
    assert (data["max_tokens"], data["max_batch"], data["max_seq"]) == (23_446, None, None)
    assert data["memory_bytes"] - data["weight_bytes"] == data["free_bytes"] == 12_292_972_544


def test_the_largest_batch_of_a_context_and_the_longest_context_of_a_batch(capsys: Capture) -> None:
    assert loaded(capsys, "fit", "--memory", "24GiB", "--context", "4096")["max_batch"] == 5
    assert loaded(capsys, "fit", "--memory", "24GiB", "--batch", "5")["max_seq"] == 4_689
    assert printed(capsys, "fit", "--memory", "24GiB", "--context", "4k").startswith("5 sequences of 4,096 tokens fit")
    assert printed(capsys, "fit", "--memory", "24GiB", "--batch", "5").startswith("5 sequences of 4,689 tokens fit")


def test_whether_both_fit(capsys: Capture) -> None:
    data = loaded(capsys, "fit", "--memory", "24GiB", "--context", "4096", "--batch", "5")
    assert data["left_bytes"] == 12_292_972_544 - 5 * 2**31
    sentence = refused(capsys, "fit", "--memory", "24GiB", "--context", "4096", "--batch", "6", code=3)
    assert sentence == (
        "the KV cache of 6 × 4,096 tokens must fit: it takes 12.00 GiB in bf16, 11.45 GiB is free, "
        "564.51 MiB too little; at most 23,446 tokens fit"
    )


def test_weights_that_do_not_fit_alone(capsys: Capture) -> None:
    sentence = refused(capsys, "fit", "--memory", "80GB", "--model", "70b", code=3)
    assert "they take 128.48 GiB in bf16, the memory is 74.51 GiB, 53.97 GiB too little" in sentence


def test_not_even_one_sequence(capsys: Capture) -> None:
    assert "at most 19,073 tokens fit" in refused(capsys, "fit", "--free", "10GB", "--context", "20k", code=3)
    assert "at most 1 tokens fit" in refused(capsys, "fit", "--free", "1MB", "--batch", "2", code=3)
    assert "at most 0 tokens fit" in refused(capsys, "fit", "--free", "1kB", code=3)


def test_parts_may_be_stored_differently(capsys: Capture) -> None:
    data = loaded(capsys, "fit", "--memory", "24GiB", "--weight-dtype", "int8", "--kv-dtype", "int8", "--kv-heads", "8")
    parameters = 6_738_415_616 - 32 * 2 * 4096 * (4096 - 1024)
    stored = parameters + 32_000 * 4096 + 65 * 4096  # embedding and norms stay in bf16
    assert (data["weight_bytes"], data["kv_bytes_per_token"]) == (stored, 65_536)
    assert data["max_tokens"] == (24 * 2**30 - stored) // 65_536


def test_csv_rows_all_fit_and_one_more_sequence_does_not(capsys: Capture) -> None:
    rows = list(csv.DictReader(io.StringIO(printed(capsys, "fit", "--memory", "24GiB", "--format", "csv"))))
    assert [(int(row["seq"]), int(row["batch"])) for row in rows] == [
        (23_446, 1), (4096, 5), (2048, 11), (1024, 22), (512, 45),
    ]  # fmt: skip
    for row in rows:
        assert int(row["kv_bytes"]) + int(row["left_bytes"]) == 12_292_972_544
        assert 0 <= int(row["left_bytes"]) < int(row["seq"]) * 524_288
