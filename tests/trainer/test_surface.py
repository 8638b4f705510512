"""All that the command takes. A new option is a decision: it is added here by hand."""

from __future__ import annotations

import pytest
import typer.main

from fsctrain.cli import app

COMMANDS = {
    "run": """
        --resume
        --recipe --data --data-weights --model --pretrained
        --context-length --lora-rank --lora-alpha --freeze-image --freeze-text
        --loss --styles --global-weight --local-weight --focal-gamma --label-smoothing
        --shard-loss --no-shard-loss
        --epochs --steps --batch-size --micro-batch-size
        --lr --betas --eps --weight-decay --schedule --warmup --cooldown --grad-clip-norm
        --crop-scale --transform --max-bad --stream --no-stream
        --validation --validate-every --patience --checkpoint-every --checkpoint-minutes
        --seed --workers --device --precision
        --grad-checkpointing --no-grad-checkpointing --compile --no-compile
        --out --name --log-every --tensorboard --no-tensorboard --wandb --no-wandb
    """,
    "recipes": "NAME",
    "plot": "RUNS --out",
    "merge": "SOURCE --out --pretrained",
    "interpolate": "SOURCE --alpha --out --pretrained",
    "export": "SOURCE --out --push --private",
}


def test_commands() -> None:
    assert typer.main.get_command(app).commands.keys() == COMMANDS.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_options(name: str) -> None:
    command = typer.main.get_command(app).commands[name]
    found = []
    for parameter in command.params:
        argument = parameter.param_type_name == "argument"
        found += (
            [parameter.name.upper()] if argument else [*parameter.opts, *parameter.secondary_opts]
        )
    assert sorted(found) == sorted(COMMANDS[name].split())
