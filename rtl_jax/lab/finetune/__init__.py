"""The task `finetune`: one source, one target, one seed."""
