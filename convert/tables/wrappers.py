"""The prefixes that training programs put before the names of a model's tensors.

torch.compile puts "_orig_mod." before the names of compiled modules, DistributedDataParallel puts
"module." before all names, and PyTorch Lightning the name of a module's attribute, such as
"model.".
"""

import re
from collections.abc import Iterable

AUTHORS_MARK = "sem_seg_head.predictor.class_embed.weight"  # every model has exactly one
HUGGING_FACE_MARK = "class_predictor.weight"


def unwrap(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Returns the names without such prefixes, and the prefixes that were removed.

    Raises:
        ValueError: there are several models under different prefixes.
    """
    plain = [re.sub(r"(^|\.)_orig_mod\.", r"\1", name) for name in names]
    removed = [] if plain == list(names) else ["_orig_mod."]
    marks = "|".join(map(re.escape, (AUTHORS_MARK, HUGGING_FACE_MARK)))
    pattern = re.compile(rf"(.*\.|)({marks})")
    prefixes = {match[1] for name in plain if (match := pattern.fullmatch(name))}
    if not prefixes or "" in prefixes:
        return plain, removed
    if len(prefixes) > 1:
        raise ValueError(
            f"holds {len(prefixes)} models, whose tensors begin with {', '.join(sorted(prefixes))}"
        )
    [prefix] = prefixes
    return [name.removeprefix(prefix) for name in plain], [*removed, prefix]
