"""The command line stored in a record, which repeats its measurement."""


def report_command(**options: object) -> str:
    """The `llamalab report` with these options; those that are None or False are left out.

    >>> report_command(model="7b", full=True, weight_dtype="int8", batch=None)
    'llamalab report --model 7b --full --weight-dtype int8'
    """
    given = [(name.replace("_", "-"), value) for name, value in options.items() if value]
    return " ".join(
        ("llamalab report", *(f"--{name}" if value is True else f"--{name} {value}" for name, value in given))
    )
