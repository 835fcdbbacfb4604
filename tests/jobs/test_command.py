from pathlib import Path

import pytest
import typer

from jobs.command import guarded


def test_ctrl_c_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = typer.Typer()

    @app.command()
    def run() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sys.argv", ["connote"])
    assert guarded(app) == 130
    assert "run the same command to go on" in capsys.readouterr().err


def test_a_wrong_option_keeps_its_own_status(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from jobs.command import app

    monkeypatch.setattr("sys.argv", ["connote", "run", "--nonsense"])
    with pytest.raises(SystemExit) as left:
        guarded(app)
    assert left.value.code == 2
