import subprocess
from pathlib import Path

import pytest

from public_addresses import (
    STATEMENT,
    Use,
    differences,
    find_addresses,
    purpose_of,
    read_table,
    scan_files,
    tracked_files,
    write_table,
)

ROOT = Path(__file__).resolve().parents[3]
# Put together here, so that this file holds no address itself.
WEB = "https:" + "//"
AT = "@"
NUMBER = ".".join("8888")
PAPER = f"{WEB}arxiv.org/abs/"


def test_the_statement_lists_every_address_of_the_tree_and_no_other() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: which files belong to the project is not known")
    try:
        names = tracked_files(ROOT)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"git cannot list the files: {error}")

    held = scan_files(ROOT, names)

    assert differences(held, read_table((ROOT / STATEMENT).read_text(encoding="utf-8"))) == []
    assert [use for use in held if purpose_of(use.address) is None] == []


@pytest.mark.parametrize(
    "text, found",
    [
        (f"see {WEB}github.com/a/b).", {f"{WEB}github.com/a/b"}),
        (f"[x]({WEB}github.com/a/b#c), '{WEB}w.cn/?q=1'", {f"{WEB}github.com/a/b#c", f"{WEB}w.cn/?q=1"}),
        (f"mail some.one+tag{AT}mail.host.org now", {f"some.one+tag{AT}mail.host.org"}),
        (f"host {NUMBER}:53", {NUMBER}),
        ("127.0.0.1 0.0.0.0 192.168.1.4 192.0.2.7 http://localhost:80/x https://a.example.com me@example.org", set()),
        ("http://registry.invalid/x git://none", set()),
        ("torch==13.0.3.0 v1.2.3.4 999.1.2.3 CANN-8.0.1.2", set()),
        ("image @ text.T; recall@5; f'{a}@{b}'; @pytest.mark", set()),
    ],
)
def test_addresses_are_found_and_reserved_ones_left_out(text: str, found: set[str]) -> None:
    assert find_addresses(text) == found


def test_a_new_address_and_a_gone_one_are_both_told(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(f"# {PAPER}2103.00020\n", encoding="utf-8")
    (tmp_path / "b.bin").write_bytes(f"\0{PAPER}1".encode())
    held = scan_files(tmp_path, ["a.py", "b.bin", "gone.py"])

    assert held == {Use("a.py", f"{PAPER}2103.00020")}
    assert read_table(write_table(held)) == held
    assert differences(held, {Use("a.py", f"{PAPER}1")}) == [
        f"missing: a.py holds {PAPER}2103.00020",
        f"stale: a.py no longer holds {PAPER}1",
    ]


def test_an_address_without_a_purpose_is_not_written() -> None:
    with pytest.raises(KeyError, match="state what it is for"):
        write_table([Use("a.py", f"{WEB}unheard-of.cn/")])
