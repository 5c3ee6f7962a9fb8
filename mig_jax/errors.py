"""The one kind of error that is shown to users without a stack trace."""


class UserError(ValueError):
    """Something the user gave (flag, config value, file, model, row of data) is wrong or cannot be used.

    The message says what is wrong, where, and how to fix it. Every other exception is a bug of ours and keeps its
    trace. `mig-jax --debug` shows the trace of user errors too.
    """
