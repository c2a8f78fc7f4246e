"""Device profiles: the shipped ones, a user's own, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgebert.errors import TargetError
from edgebert.targets.profile import Profile, read_profile, shipped_profiles


def test_the_shipped_profiles_are_called_as_their_files() -> None:
    assert shipped_profiles() == ["any-cpu", "intel-npu", "linux-arm64", "linux-x86-avx2", "linux-x86-vnni"]
    for name in shipped_profiles():
        profile = read_profile(name)
        assert profile.name == name
        assert profile.description
        assert set(profile.artifacts) <= {"onnxruntime-fp32", "onnxruntime-int8", "openvino-fp32", "openvino-int8"}
    assert read_profile("intel-npu").static
    assert read_profile("linux-x86-avx2").artifacts == ("openvino-int8", "openvino-fp32")


def test_a_users_own_profile_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "mine"\ndescription = "a box"\nartifacts = ["onnxruntime-int8"]\nmax_size_mb = 5\n', encoding="utf-8"
    )
    assert read_profile(str(path)) == Profile("mine", "a box", ("onnxruntime-int8",), max_size_mb=5.0)


@pytest.mark.parametrize("name", ["linux-riscv", "", "../profiles/linux-arm64x", "none.toml"])
def test_an_unknown_target_lists_the_known_ones(name: str) -> None:
    with pytest.raises(TargetError) as raised:
        read_profile(name)
    assert str(raised.value).startswith(f"no target {name!r}; known are any-cpu, intel-npu, linux-arm64, ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('name = "x"\ndescription = "y"\nartifacts = ["a"]\nsize = 3\n',
         "unknown key 'size'; known are artifacts, description, max_size_mb, measured, name, one_file, static"),
        ('description = "y"\nartifacts = ["a"]\n', "the key 'name' is missing"),
        ('name = "x"\ndescription = "y"\n', "the key 'artifacts' is missing"),
        ('name = "x"\ndescription = "y"\nartifacts = []\n', "artifacts is empty; name at least one"),
        ('name = "x"\ndescription = "y"\nartifacts = "openvino-int8"\n', "a list is wanted, not 'openvino-int8'"),
        ('name = "x"\ndescription = "y"\nartifacts = ["a"]\nstatic = 1\n', "static: bool is wanted, not 1"),
        ('name = "x"\ndescription = "y"\nartifacts = ["a"]\nmax_size_mb = "9"\n', "float is wanted, not '9'"),
        ('name = "x"\ndescription = "y"\nartifacts = ["a"]\n[[measured]]\nlayers = 2\n', "the key 'width' is missing"),
        ('name = "x"\ndescription = "y"\nartifacts = ["a"]\n[[measured]]\nlayers = 2\nwidth = 9\nheads = 3\n'
         "feed_forward = 9\np50_ms = 1\np99_ms = 0\ntexts_per_second = 3\n",
         "measured[0]: p99_ms is 0.0; it must be above 0"),
        ("name = \n", "is not TOML"),
    ],
)  # fmt: skip
def test_a_profile_that_cannot_be_read_says_where_and_why(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(TargetError) as raised:
        read_profile(str(path))
    assert message in str(raised.value)
    assert "mine.toml" in str(raised.value)


def test_a_profile_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(TargetError, match="mine.toml is not TOML"):
        read_profile(str(tmp_path / "mine.toml"))
