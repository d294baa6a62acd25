"""Joining the other processes of a job."""

from m2f_jax.cli.arguments import Processes


def join_processes(processes: Processes) -> int:
    """Connects this process to the others, before anything touches a device.

    Returns:
        How many there are, with this one.

    Raises:
        ValueError: only some of the arguments were given, or the others can't be found.
    """
    named = {
        "coordinator_address": processes.coordinator_address,
        "num_processes": processes.num_processes,
        "process_id": processes.process_id,
    }
    missing = [name for name, value in named.items() if value is None]
    if not processes.distributed and len(missing) == len(named):
        return 1
    if missing and len(missing) < len(named):
        option = "--" + missing[0].replace("_", "-")
        raise ValueError(f"{option} is missing; the processes of a job need all three arguments")
    import jax
    from jax.experimental import multihost_utils

    try:
        jax.distributed.initialize(**named)
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"the other processes can't be found ({error}); give --coordinator-address, "
            "--num-processes and --process-id"
        ) from error
    # Connects the devices while all are here: later, some may come too late for it.
    multihost_utils.sync_global_devices("m2f")
    return jax.process_count()
