"""Commands that belong to the installation."""

from signal_pipeline.cli.console import out, readable_errors


def warm_up() -> None:
    """Compile the numeric kernels now, so that the first signal does not wait for it."""
    with readable_errors():
        from signal_pipeline.dsp.warm_up import warm_up as compile_kernels

        compile_kernels()
        out.print("kernels are compiled")
