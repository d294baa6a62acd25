"""Runs the program that a pickle is, in bounded time and memory, and without trusting it.

The number of operations is limited, copies are limited to twice the pickle's size, and nothing
nested is hashed or printed. So a pickle takes a few seconds and 300 MB plus five times its size of
memory at most.
"""

import dataclasses
import pickletools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

OPERATIONS = 1_000_000  # the most of a pickle; a training state of 10,000 tensors needs half
SPARE = 2**20  # bytes that a pickle may copy beyond twice its size
ARGUMENTS = 16  # the most of a function
KEY_PARTS = 8  # the most of a tuple that is a key


class RefusedError(ValueError):
    """The error that a complete file can't be read; its message follows the file's name."""


@dataclasses.dataclass
class Budget:
    """The operations and copies that reading a pickle may still take.

    Attributes:
        operations: the number left of operations of its program.
        copies: the number left of bytes that may be copied.
    """

    operations: int
    copies: int

    @classmethod
    def of(cls, size: int) -> "Budget":
        """Returns the budget of a pickle of `size` bytes."""
        return cls(OPERATIONS, 2 * size + SPARE)

    def operate(self):
        """Takes one operation from the budget.

        Raises:
            RefusedError: none is left.
        """
        self.operations -= 1
        if self.operations < 0:
            raise RefusedError(
                f"takes more than {OPERATIONS:,} steps to read, unlike a checkpoint; save only its "
                "tensors, best as safetensors"
            )

    def copy(self, size: int):
        """Takes `size` bytes from the budget of copies.

        Raises:
            RefusedError: fewer are left.
        """
        self.copies -= size
        if self.copies < 0:
            raise RefusedError(
                "asks for more copies of its data than arrays need; save only its tensors, best as "
                "safetensors"
            )


class Function(NamedTuple):
    """A function that a pickle can call, but not change."""

    call: Callable[..., Any]  # of the budget and of its arguments


class Stateful:
    """An object whose state a pickle can set."""

    def set_state(self, budget: Budget, state: Any):
        """Sets the state."""
        raise NotImplementedError


def key_of(value: Any) -> Any:
    """Returns a value that may be a key: it hashes fast, and without collisions made on purpose.

    Raises:
        RefusedError: the value may not be a key.
    """
    match value:
        case str() | bytes() | bool() | float() | None:
            return value
        case int() if abs(value) < 2**60:
            return value
        case tuple() if len(value) <= KEY_PARTS and all(type(part) is str for part in value):
            return value
    raise RefusedError(f"has {brief(value)} as a key, which checkpoints do not need")


def brief(value: Any) -> str:
    """Returns a value for messages: text itself, cut if it is long; for all else, the type."""
    return f"{value[:80]!r}" if isinstance(value, str) else f"a {type(value).__name__}"


def pairs_of(values: list) -> list[tuple[Any, Any]]:
    """Returns a list of alternating keys and values as pairs."""
    return [(key_of(key), value) for key, value in zip(values[::2], values[1::2], strict=True)]


class Bounded:
    """A file of which at most `size` bytes can be read."""

    def __init__(self, file: Any, size: int):
        self.file, self.left = file, size

    def read(self, size: int) -> bytes:
        """Returns the next bytes.

        Raises:
            EOFError: fewer are left.
        """
        if size > self.left:
            raise EOFError(f"{size} bytes are said to follow, and {self.left} do")
        self.left -= size
        return self.file.read(size)

    def readline(self) -> bytes:
        """Returns the next line."""
        line = self.file.readline(self.left)
        self.left -= len(line)
        return line


class Machine:
    """Runs a pickle's program: the operations that dicts, lists, strings, numbers and arrays need.

    Python's own can't be used: in the one in C, a single bad byte can demand 64 GB of memory, and
    both hash, print and allocate whatever a pickle says.

    Attributes:
        budget: the operations and copies left, which several pickles in one file share.
        find: returns the stand-in for a name in a module; raises RefusedError if there is none.
        refer: returns the stand-in for a persistent id; raises RefusedError if there is none.
    """

    def __init__(
        self,
        budget: Budget,
        find: Callable[[str, str], Any],
        refer: Callable[[Any], Any],
    ):
        self.budget, self.find, self.refer = budget, find, refer
        self.stack: list[Any] = []
        self.marks: list[int] = []  # where on the stack
        self.memo: dict[int, Any] = {}

    def run(self, file: Any, size: int) -> object:
        """Returns the content of a pickle of at most `size` bytes.

        Raises:
            RefusedError: it uses an operation that isn't allowed, or exceeds the budget.
            Exception: any, if it is damaged.
        """
        self.stack, self.marks, self.memo = [], [], {}
        for opcode, argument, _ in pickletools.genops(cast(Any, Bounded(file, size))):
            self.budget.operate()
            if opcode.name in PUSHED:
                self.stack.append(argument)
            elif opcode.name in OPERATORS:
                OPERATORS[opcode.name](self, argument)
            else:
                raise RefusedError(f"uses {opcode.name}, which arrays do not need")
        return self.stack.pop()

    def above_mark(self) -> list[Any]:
        """Pops everything above the last mark."""
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def last(self, count: int) -> tuple[Any, ...]:
        """Pops `count` values."""
        if count > len(self.stack):
            raise ValueError("an operation lacks its operands")
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        return items

    def get(self, key: int):
        """Pushes the value with this key in the memo."""
        self.stack.append(self.memo[key])

    def put(self, key: int):
        """Stores the value on top of the stack in the memo."""
        if not 0 <= key < 2**32:
            raise ValueError("a value is remembered under no number of 32 bits")
        self.memo[key] = self.stack[-1]

    def append(self, values: list[Any] | tuple[Any, ...]):
        """Appends to the list on top of the stack."""
        if type(self.stack[-1]) is not list:
            raise ValueError(f"{brief(self.stack[-1])} is no list")
        self.stack[-1].extend(values)

    def set_items(self, values: list[Any]):
        """Adds to the dict on top of the stack."""
        if not isinstance(self.stack[-1], dict):
            raise ValueError(f"{brief(self.stack[-1])} is no dict")
        self.stack[-1].update(pairs_of(values))

    def add_items(self, values: list[Any]):
        """Adds to the set on top of the stack."""
        if type(self.stack[-1]) is not set:
            raise ValueError(f"{brief(self.stack[-1])} is no set")
        self.stack[-1].update(map(key_of, values))

    def pop(self):
        """Pops the value on top of the stack, or the mark if there is one."""
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.stack.pop()

    def reduce(self):
        """Calls a function with its arguments."""
        function, arguments = self.last(2)
        if not isinstance(function, Function):
            raise ValueError(f"{brief(function)} is no function")
        if not isinstance(arguments, tuple) or len(arguments) > ARGUMENTS:
            raise ValueError(f"{brief(arguments)} is no list of arguments")
        self.stack.append(function.call(self.budget, *arguments))

    def build(self):
        """Pops a state and sets it on the object below."""
        instance, state = self.last(2)
        if not isinstance(instance, Stateful):
            raise RefusedError(f"sets the state of {brief(instance)}, which has none")
        instance.set_state(self.budget, state)
        self.stack.append(instance)

    def push_global(self, module: Any, name: Any):
        """Pushes the stand-in for a function or a constant."""
        if not (isinstance(module, str) and isinstance(name, str)):
            raise ValueError("a function has no name")
        self.stack.append(self.find(module, name))


PUSHED = frozenset(
    {
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
        *("BYTEARRAY8", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    }
)
"""Operations that put their argument on the stack."""

OPERATORS: dict[str, Callable[[Machine, Any], Any]] = {
    "PROTO": lambda _m, _: None,
    "FRAME": lambda _m, _: None,
    "STOP": lambda _m, _: None,
    "NONE": lambda m, _: m.stack.append(None),
    "NEWTRUE": lambda m, _: m.stack.append(True),
    "NEWFALSE": lambda m, _: m.stack.append(False),
    "EMPTY_LIST": lambda m, _: m.stack.append([]),
    "EMPTY_TUPLE": lambda m, _: m.stack.append(()),
    "EMPTY_DICT": lambda m, _: m.stack.append({}),
    "EMPTY_SET": lambda m, _: m.stack.append(set()),
    "LIST": lambda m, _: m.stack.append(m.above_mark()),
    "TUPLE": lambda m, _: m.stack.append(tuple(m.above_mark())),
    "TUPLE1": lambda m, _: m.stack.append(m.last(1)),
    "TUPLE2": lambda m, _: m.stack.append(m.last(2)),
    "TUPLE3": lambda m, _: m.stack.append(m.last(3)),
    "DICT": lambda m, _: m.stack.append(dict(pairs_of(m.above_mark()))),
    "FROZENSET": lambda m, _: m.stack.append(frozenset(map(key_of, m.above_mark()))),
    "APPEND": lambda m, _: m.append(m.last(1)),
    "APPENDS": lambda m, _: m.append(m.above_mark()),
    "SETITEM": lambda m, _: m.set_items(list(m.last(2))),
    "SETITEMS": lambda m, _: m.set_items(m.above_mark()),
    "ADDITEMS": lambda m, _: m.add_items(m.above_mark()),
    "MARK": lambda m, _: m.marks.append(len(m.stack)),
    "POP": lambda m, _: m.pop(),
    "POP_MARK": lambda m, _: m.above_mark(),
    "DUP": lambda m, _: m.stack.append(m.stack[-1]),
    "GET": lambda m, key: m.get(key),
    "BINGET": lambda m, key: m.get(key),
    "LONG_BINGET": lambda m, key: m.get(key),
    "PUT": lambda m, key: m.put(key),
    "BINPUT": lambda m, key: m.put(key),
    "LONG_BINPUT": lambda m, key: m.put(key),
    "MEMOIZE": lambda m, _: m.put(len(m.memo)),
    "GLOBAL": lambda m, names: m.push_global(*names.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: m.push_global(*m.last(2)),
    "REDUCE": lambda m, _: m.reduce(),
    "BUILD": lambda m, _: m.build(),
    "PERSID": lambda m, reference: m.stack.append(m.refer(reference)),
    "BINPERSID": lambda m, _: m.stack.append(m.refer(m.stack.pop())),
}
"""The other operations that are allowed; those left out make objects of arbitrary classes."""
