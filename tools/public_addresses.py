"""Keep public_address_statement.md true: every public address that a tracked file holds, in ModelZoo's table form.

``--check`` (default) says what is missing or stale, ``--write`` writes the table anew. Contacts no address.

Left out are addresses that cannot be public: loopback and private networks, and the names and networks reserved for
documentation (RFC 2606, RFC 5737, RFC 3849). A host name without a scheme is not told from other text. Binary files
and the statement itself are not searched.
"""

import argparse
import ipaddress
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
STATEMENT = "public_address_statement.md"
_TITLES = ("类型", "开源代码地址", "文件名", "公网IP地址/公网URL地址/域名/邮箱地址", "用途说明")
# What an address is for, by the longest matching beginning, scheme left out. An address without an entry stops --write.
PURPOSES = {
    "www.apache.org/": "许可证文本中的地址",
    "creativecommons.org/": "许可证文本中的地址",
    "www.w3.org/": "XML 命名空间标识，不发起访问",
    "arxiv.org/": "注释中引用的论文",
    "git-lfs.github.com/": "Git LFS 指针文件的格式标识，不发起访问",
    "storage.googleapis.com/": "分词器词表的下载地址",
    "obs.REGION.myhuaweicloud.com": "报错信息中的对象存储地址示例，不发起访问",
    "github.com/": "文档中引用的开源仓库",
    "gitee.com/ascend": "文档中引用的昇腾开源仓库",
    "keepachangelog.com/": "文档中引用的变更日志格式说明",
    "semver.org/": "文档中引用的版本号规范",
    "huggingface.co/": "模型权重与配置的下载地址",
    "openaipublic.azureedge.net/": "模型权重的下载地址",
    "github.com/mlfoundations/open_clip/releases/": "模型权重的下载地址",
    "dl.fbaipublicfiles.com/": "模型权重的下载地址",
    "pytorch.org/": "文档中引用的 PyTorch 官网",
    "download.pytorch.org/": "安装命令中的 PyTorch 安装源",
    "www.hiascend.com/": "文档中引用的昇腾官网",
    "ui.perfetto.dev": "提示信息中的性能数据查看工具，不发起访问",
}
# Files that are not our own, with where they come from.
_TAKEN_FROM = {"examples/flickr30k-emoji/LICENSE-Apache-2.0.txt": "www.apache.org/licenses/LICENSE-2.0.txt"}
_URL = re.compile(r"\b(?:https?|ftp|s3|gs)://[^\s\"'`<>|\\^{}\[\]()（），。；]+")
_EMAIL = re.compile(r"(?<![\w.+/-])[A-Za-z0-9][\w.+-]*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}\b")
# Not behind a comparison, letter, dash or the name of what has it: four-part versions (==13.0.3.0) look like addresses.
_IP = re.compile(r"(?<!driver )(?<!cann )(?<![\w.=<>~-])(?:\d{1,3}\.){3}\d{1,3}(?![\w.-])")
_RESERVED_NAMES = re.compile(r"(?:^|\.)(?:localhost|example|invalid|test|example\.(?:com|org|net))$", re.IGNORECASE)


class Use(NamedTuple):
    """One address in one file."""

    file: str
    address: str


def find_addresses(text: str) -> set[str]:
    """Find the public URLs, e-mail addresses and IP addresses of a text."""
    urls = {match.rstrip(".,;:!?*_") for match in _URL.findall(text)}
    rest = _URL.sub(" ", text)
    found = {url for url in urls if _is_public_host(_host(url))}
    found |= {mail for mail in _EMAIL.findall(rest) if _is_public_host(mail.rpartition("@")[2])}
    return found | {number for number in _IP.findall(rest) if _is_public_host(number)}


def scan_files(root: Path, names: Iterable[str]) -> set[Use]:
    """Find the addresses of files, given by their path below the root."""
    uses: set[Use] = set()
    for name in names:
        path = root / name
        if name == STATEMENT or path.is_symlink() or not path.is_file():
            continue
        data = path.read_bytes()
        if b"\0" in data[:8192]:
            continue
        uses |= {Use(name, address) for address in find_addresses(data.decode("utf-8", errors="replace"))}
    return uses


def tracked_files(root: Path) -> list[str]:
    """List the files that git tracks, and the new ones that it does not ignore."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, check=True, capture_output=True).stdout
    return sorted({name.decode() for name in listed.split(b"\0") if name})


def purpose_of(address: str) -> str | None:
    """Say what an address is for; None when no entry of ``PURPOSES`` fits."""
    name = address.rpartition("://")[2]
    fitting = [beginning for beginning in PURPOSES if name.startswith(beginning)]
    return PURPOSES[max(fitting, key=len)] if fitting else None


def write_table(uses: Iterable[Use]) -> str:
    """Lay the uses out as ModelZoo's table.

    Raises:
        KeyError: For an address whose purpose nobody has stated.
    """
    rows = ["# 公网地址声明", "", _row(_TITLES), _row(["---"] * len(_TITLES))]
    for use in sorted(uses):
        purpose = purpose_of(use.address)
        if purpose is None:
            raise KeyError(
                f"{use.file} holds {use.address}; state what it is for in PURPOSES of tools/public_addresses.py"
            )
        source = _TAKEN_FROM.get(use.file)
        kind = "自研代码引入" if source is None else "开源代码引入"
        rows.append(_row((kind, source or "不涉及", use.file, use.address, purpose)))
    return "\n".join(rows) + "\n"


def read_table(text: str) -> set[Use]:
    """Read the uses back from the table."""
    uses = set()
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if line.startswith("|") and len(cells) == len(_TITLES) and cells[0] not in (_TITLES[0], "---"):
            uses.add(Use(cells[2], cells[3]))
    return uses


def differences(held: set[Use], stated: set[Use]) -> list[str]:
    """Say what the statement lacks and what it states in vain."""
    missing = [f"missing: {use.file} holds {use.address}" for use in sorted(held - stated)]
    return missing + [f"stale: {use.file} no longer holds {use.address}" for use in sorted(stated - held)]


def main(words: list[str] | None = None) -> int:
    """Check the statement, or write it."""
    parser = argparse.ArgumentParser(description="Check or write public_address_statement.md.")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="say what is missing or stale (default)")
    mode.add_argument("--write", action="store_true", help="write the table anew")
    options = parser.parse_args(words)
    held = scan_files(ROOT, tracked_files(ROOT))
    path = ROOT / STATEMENT
    if options.write:
        try:
            path.write_text(write_table(held), encoding="utf-8")
        except KeyError as error:
            print(f"[Error] {error.args[0]}", file=sys.stderr)
            return 2
        return 0
    stated = read_table(path.read_text(encoding="utf-8")) if path.is_file() else set()
    found = differences(held, stated)
    if found:
        print("\n".join([*found, "Run `make docs` to write the table anew."]), file=sys.stderr)
    return 1 if found else 0


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _host(url: str) -> str:
    host = url.partition("://")[2].partition("/")[0].rpartition("@")[2]
    return host.partition("?")[0].partition(":")[0]


def _is_public_host(host: str) -> bool:
    if not host or host.startswith(("$", "%")) or _RESERVED_NAMES.search(host):
        return False
    try:
        number = ipaddress.ip_address(host)
    except ValueError:
        # A dotted number that is no address (999.1.2.3) is none of ours; a name without a dot cannot be public.
        return "." in host and not _IP.fullmatch(host)
    return number.is_global


if __name__ == "__main__":
    sys.exit(main())
