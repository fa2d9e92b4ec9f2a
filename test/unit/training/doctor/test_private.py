import getpass
import os
import socket
import sys

import pytest

from open_clip.redaction import HIDDEN
from training.doctor.private import hide, hide_value


@pytest.mark.parametrize(
    "text,shown",
    [
        ("connect to 10.3.0.17:29500 failed", f"connect to {HIDDEN}:29500 failed"),
        ("listening on 127.0.0.1:29500 and 0.0.0.0", "listening on 127.0.0.1:29500 and 0.0.0.0"),
        ("driver 25.2.0.1, cann 8.3.0.1", "driver 25.2.0.1, cann 8.3.0.1"),
        ("torch 2.9.0 and python 3.11.9", "torch 2.9.0 and python 3.11.9"),
        ("MAC 0a:1b:2c:3d:4e:5f", f"MAC {HIDDEN}"),
        ("at 12:34:56 on 0000:81:00.0", "at 12:34:56 on 0000:81:00.0"),
        ("GPU-8a1f2b3c-0d1e-2f3a-4b5c-6d7e8f9a0b1c", f"GPU-{HIDDEN}"),
        ("open /home/zhang/run/a.py: denied", "open ~/run/a.py: denied"),
        ("see https://me:secret@host.example/x", f"see https://{HIDDEN}@host.example/x"),
    ],
)
def test_addresses_and_homes_are_hidden_and_versions_are_not(text, shown):
    assert hide(text) == shown


def test_names_of_this_user_and_machine_are_hidden(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "ascend-node-7.corp.example")
    monkeypatch.setenv("LOGNAME", "wangwu")
    assert getpass.getuser() == "wangwu"
    assert (
        hide("ascend-node-7 refused wangwu; ascend-node-7.corp.example too")
        == f"{HIDDEN} refused {HIDDEN}; {HIDDEN} too"
    )
    assert hide("ascend-node-71, wangwu2") == "ascend-node-71, wangwu2"


def test_folders_of_this_installation_become_words(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert hide(f"{tmp_path}/models/a.pt") == "~/models/a.pt"
    assert hide(f"{tmp_path}2/a.pt") == f"{tmp_path}2/a.pt"
    assert hide(f"{sys.prefix}/lib/libtorch.so") == "<python>/lib/libtorch.so"
    assert os.getcwd() not in hide(f"{os.getcwd()}/src/training/doctor")


def test_variables_that_name_a_place_or_a_secret_show_no_value():
    assert hide_value("HCCL_IF_IP", "10.0.0.1") == HIDDEN
    assert hide_value("MASTER_ADDR", "node-a") == HIDDEN
    assert hide_value("TORCH_HUB_TOKEN", "abc") == HIDDEN
    assert hide_value("PYTORCH_NPU_ALLOC_CONF", "expandable_segments:True") == "expandable_segments:True"
