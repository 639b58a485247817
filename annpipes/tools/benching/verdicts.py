"""Which limit binds, and what to do about it: sentences that follow from a benchmark's numbers alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from annpipes.messages.brevity import brief_number, brief_time
from annpipes.tools.benching.bounds import ANNPIPES, BenchCase, BenchLimit, together

__all__ = ["conclude", "find"]

_CHEAP_EPOCH = 0.2  # seconds: starting a pass is no longer to be neglected
_MUCH = 1.5  # times as fast: worth a word
_DENSE_COSTS = 0.8
_SHORT_TURN = 0.05


def find(cases: Sequence[BenchCase], fits_memory: bool | None = True) -> str:
    """Which limit binds the cases of one order, one for each form.

    >>> limits = [BenchLimit("decode", "inflating gzip", 108_000.0, 1310.0)]
    >>> case = BenchCase.of(
    ...     200_000, order="blocks", block_size=64, form="csr", rows=100, turns=3, cells_per_second=104_000.0,
    ...     slowest=1.0, fastest=1.0, limits=limits, disk=None, read_amplification=1.35,
    ... )
    >>> find([case])
    'Blocks of 64: inflating gzip is the limit, 104,000 of at most 108,000 cells/s.'
    """
    named = cases[0].named
    slow = [case for case in cases if _disk_binds(case, fits_memory)]
    if slow and slow[0].disk:
        best = brief_number(max(case.cells_per_second for case in cases))
        return (
            f"{_capital(named)}: the disk is the limit, as the file does not fit into memory: at most "
            f"{_speed(slow[0].disk)}; from memory it would be {best}."
        )
    if len({case.binding for case in cases}) == 1:
        first, *others = cases
        more = [f", {_reached(case)} as {_form(case)}" for case in others]
        form = f" as {_form(first)}" if others else ""
        return f"{_capital(named)}: {_limit(first)} is the limit, {_reached(first, ' cells/s')}{form}{''.join(more)}."
    parts = [f"for {_form(case)} {_limit(case)} is the limit, {_reached(case, ' cells/s')}" for case in cases]
    return f"{_capital(named)}: {'; '.join(parts)}."


def conclude(cases: Sequence[BenchCase], *, reason: str = "", fits_memory: bool | None = True) -> str:
    """Whether file, machine or annpipes is the limit of an ordinary epoch, and what would change it.

    Parameters
    ----------
    cases
        All orders and forms.
    reason
        Why the file goes through h5py, if it does.
    fits_memory
        Whether a second epoch finds the file in the page cache.
    """
    by = {(case.order, case.form): case for case in cases}
    form = "csr" if ("blocks", "csr") in by else "dense"
    main = by["blocks", form]
    sentences = [
        _verdict(main, reason, fits_memory),
        *_remarks(main, by.get(("random", form)), by.get(("blocks", "dense"))),
    ]
    if main.disk and main.disk.cells_per_second < main.cells_per_second and fits_memory is not False:
        seconds = main.epoch_seconds * main.cells_per_second / main.disk.cells_per_second
        sentences.append(
            f"The first epoch, while the file is not in memory yet, takes at least {brief_time(seconds)}: the disk "
            f"delivers {_speed(main.disk)}."
        )
    if max(map(_unrest, cases)) > _MUCH:
        sentences.append("Turns differ a lot, so the machine was busy: repeat this when it is quiet.")
    return " ".join(sentences)


def _verdict(case: BenchCase, reason: str, fits_memory: bool | None) -> str:
    if _disk_binds(case, fits_memory):
        return (
            "The disk is the limit: put the file on a faster one, or compress it better (annpipes shuffle), as long as "
            "decoding keeps up."
        )
    verdict = _VERDICTS.get(case.binding, _machine)
    return verdict(case) if case.binding not in _LIBRARIES else _by_library(case, reason)


def _decode(case: BenchCase) -> str:
    limit = case.limit("decode")
    assert limit
    rest = together([other for other in case.limits if other.name != "decode"])
    copy = "an uncompressed copy" if limit.quick else "an uncompressed or LZ4 copy"
    return (
        f"The file is the limit: {limit.work} takes most of the time. A cache (cache=) does it only once, and {copy} "
        f"(annpipes shuffle) does not need it; without decoding, at most {brief_number(rest)} cells/s from memory."
    )


def _network(case: BenchCase) -> str:
    limit, rest = case.network, together([other for other in case.limits if other.name != "decode"])
    assert limit
    return (
        f"The network is the limit: plain requests for the same bytes reach {_speed(limit)}. A cache (cache=) requests "
        f"and decodes each byte once, so later epochs reach up to {brief_number(rest)} cells/s. More requests at once "
        f"(ap.Remote(…, requests=)) help if each takes long; a machine closer to the data always helps."
    )


_LIBRARIES = {"hdf5": "HDF5", "zarr": "zarr"}


def _by_library(case: BenchCase, reason: str) -> str:
    why = f" ({reason})" if reason else ""
    return (
        f"The file is the limit: {_LIBRARIES[case.binding]} alone can read it{why}, in one thread. A copy written by "
        f"annpipes shuffle is read directly, by all cores."
    )


def _machine(case: BenchCase) -> str:
    return f"The machine is the limit: {_limit(case)} takes most of the time, no matter how the file is compressed."


def _annpipes(case: BenchCase) -> str:
    if case.epoch_seconds < _CHEAP_EPOCH:
        return (
            f"Neither file nor machine is the limit: the whole file takes {brief_time(case.epoch_seconds)}, and most "
            f"of that is starting a pass and handing out batches."
        )
    return (
        f"annpipes itself is the limit ({case.share:.0%} of what this machine could do at best): larger batches "
        f"and chunks reduce its overhead."
    )


_VERDICTS = {"decode": _decode, "copy": _machine, "densify": _machine, "network": _network, ANNPIPES: _annpipes}


def _remarks(main: BenchCase, random: BenchCase | None, dense: BenchCase | None) -> Iterator[str]:
    """What block size and form cost."""
    if random and main.block_size > 1 and main.cells_per_second > _MUCH * random.cells_per_second:
        times = brief_number(float(f"{main.cells_per_second / random.cells_per_second:.2g}"))
        wasted = random.read_amplification
        why = f", which decode {brief_number(float(f'{wasted:.2g}'))} bytes for each one used" if wasted > _MUCH else ""
        yield f"Blocks of {main.block_size} are {times} times as fast as random rows{why}."
    if main.form == "csr" and dense and dense.cells_per_second < _DENSE_COSTS * main.cells_per_second:
        cost = 1 - dense.cells_per_second / main.cells_per_second
        yield (
            f"Making batches dense costs {cost:.0%} of the speed: use form='csr', and do it on the GPU if there is one."
        )


def _disk_binds(case: BenchCase, fits_memory: bool | None) -> bool:
    return fits_memory is False and case.disk is not None and case.disk.cells_per_second < case.cells_per_second


def _unrest(case: BenchCase) -> float:
    """How much faster the fastest turn was than the slowest; turns of milliseconds tell nothing."""
    return case.fastest / case.slowest if case.rows / case.cells_per_second > _SHORT_TURN else 1.0


def _limit(case: BenchCase) -> str:
    limit = case.limit(case.binding)
    return limit.work if limit else "annpipes itself"


def _reached(case: BenchCase, unit: str = "") -> str:
    """How much, of how much."""
    reached, most = brief_number(case.cells_per_second), brief_number(case.at_most)
    if case.binding == ANNPIPES:
        return f"{reached}{unit} ({case.share:.0%} of {most})"
    return f"{reached} of {'at most' if case.share < 1 else 'about'} {most}{unit}"


def _form(case: BenchCase) -> str:
    return f"{'CSR' if case.form == 'csr' else case.form} batches"


def _speed(limit: BenchLimit) -> str:
    return f"{brief_number(limit.cells_per_second)} cells/s ({brief_number(limit.megabytes_per_second)} MB/s)"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
