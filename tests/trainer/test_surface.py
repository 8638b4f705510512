"""Every option of the command. A new option is a decision, so it must be added here by hand."""

from __future__ import annotations

import pytest

from fsctrain.cli import Commands

COMMANDS = {
    "run": """
        --resume
        --recipe --data --data-weights --model --pretrained
        --context-length --lora-rank --lora-alpha --lora-conv --freeze-image --freeze-text
        --loss --styles --global-weight --local-weight --focal-gamma --label-smoothing
        --mask-same-image --no-mask-same-image --shard-loss --no-shard-loss
        --epochs --steps --batch-size --micro-batch-size
        --lr --betas --eps --weight-decay --schedule --warmup --cooldown --grad-clip-norm
        --crop-scale --captions-per-image --transform --max-bad --stream --no-stream
        --validation --validate-every --score --patience --checkpoint-every --checkpoint-minutes
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


def test_commands_are_known() -> None:
    assert Commands.lazy.keys() == COMMANDS.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_options_are_known(name: str) -> None:
    options: list[str] = []
    for parameter in Commands().load(name).params:
        argument = parameter.param_type_name == "argument"
        options += (
            [parameter.name.upper()] if argument else [*parameter.opts, *parameter.secondary_opts]
        )
    assert sorted(options) == sorted(COMMANDS[name].split())
