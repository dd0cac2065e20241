"""Names and texts of a network as five languages spell them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

__all__ = ["class_name", "identifier", "identifiers", "literal", "plain"]

_CPP = """
alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t char16_t char32_t class co_await co_return
co_yield compl concept const const_cast consteval constexpr constinit continue decltype default delete do double dynamic_cast
else enum explicit export extern false float for friend goto if inline int long mutable namespace new noexcept not not_eq
nullptr operator or or_eq private protected public register reinterpret_cast requires return short signed sizeof static
static_assert static_cast struct switch template this thread_local throw true try typedef typeid typename union unsigned using
virtual void volatile wchar_t while xor xor_eq

BUFSIZ DOMAIN EDOM EILSEQ EOF ERANGE FALSE HUGE HUGE_VAL I INFINITY MAXFLOAT NAN NULL OVERFLOW TRUE UNDERFLOW assert errno
linux major makedev minor near far small interface stderr stdin stdout unix

std tflite int8_t int16_t int32_t int64_t uint8_t uint16_t uint32_t size_t
file_ interpreter_ runner_ found values q x Raw run encode largest
"""
_KOTLIN = """
abstract actual annotation as break by catch class companion const constructor continue crossinline data delegate do dynamic
else enum expect external false field file final finally for fun get if import in infix init inline inner interface internal is
it lateinit noinline null object open operator out override package param private property protected public receiver reified
return sealed set setparam super suspend tailrec this throw true try typealias typeof val value var vararg when where while

inputs outputs interpreter raw x b mapOf buffer run predict encode
"""
_SWIFT = """
Any Protocol Self Type actor any as associatedtype associativity async await break case catch class consume continue
convenience copy default defer deinit didSet do dynamic else enum extension fallthrough false fileprivate final for func get
guard if import in indirect infix init inout internal is isolated lazy left let mutating nil none nonisolated nonmutating open
operator optional override package postfix precedence precedencegroup prefix private protocol public repeat required rethrows
return right self set some static struct subscript super switch throw throws true try typealias unowned var weak where while
willSet

interpreter found raw bytes Data Interpreter Array run predict encode
"""
#: By language: words of the language, names that its headers take, and those that our own calls
#: use.
_TAKEN = {
    "cpp": frozenset(_CPP.split()),
    "kotlin": frozenset(_KOTLIN.split()),
    "swift": frozenset(_SWIFT.split()),
}
#: Types and constants of any of the languages that a snippet uses: none may be the snippet's own
#: class.
_OWN_TYPES = """
Any Array Bool Boolean Box Bundle Byte ByteArray ByteBuffer ByteOrder Data Dictionary Double Error Failure False Float
Float32Array FloatArray Found INFINITY INPUTS Infinity Int Int16 Int16Array Int32 Int32Array Int64 Int8 Int8Array IntArray
Interpreter Iterable JSON LABELS Labeled List LongArray Map Math NAN NULL NaN None Normalizer Number OUTPUTS Object Pair Point
Promise Raw RegExp Self Set ShortArray String Symbol TASKS Tensor True Triple Type UInt8 Uint8Array Unit
"""
_TYPES = frozenset(_OWN_TYPES.split())


def identifier(name: str) -> str:
    """A name in letters, digits and underscores of ASCII, beginning with no digit."""
    spelled = re.sub(r"\W+", "_", name, flags=re.ASCII) or "_"
    return f"_{spelled}" if spelled[:1].isdigit() else spelled


def identifiers(names: Iterable[str], language: str) -> dict[str, str]:
    """By name, what it is called in a language: with `_` behind, where the name is a word of it or
    already used."""
    spelled: dict[str, str] = {}
    for name in names:
        word = identifier(name)
        # Headers of C++ hold macros, in capitals, that no list of ours knows all of.
        if language == "cpp" and word.isupper():
            word += "_"
        while word in _TAKEN.get(language, ()) or word in spelled.values():
            word += "_"
        spelled[name] = word
    return spelled


def class_name(stem: str) -> str:
    """The class that calls a file: `my_model` is `MyModel`."""
    parts = re.sub(r"\W+", "_", stem, flags=re.ASCII).split("_")
    name = "".join(part[:1].upper() + part[1:] for part in parts)
    if name in _TYPES:
        return f"{name}Model"
    return f"Model{name}" if not name or name[0].isdigit() else name


def literal(text: str, language: str) -> str:
    """A text in double quotes, as the language reads it."""
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    if language == "kotlin":
        escapes["$"] = "\\$"
    return '"' + "".join(escapes.get(c) or _control(c, language) for c in text) + '"'


def _control(c: str, language: str) -> str:
    # Line ends of Unicode end lines in some readers of source, and C++ takes three octal digits and
    # no more.
    if ord(c) >= 32 and c not in "\x7f\x85\u2028\u2029":
        return c
    if language == "swift":
        return f"\\u{{{ord(c):x}}}"
    if language == "cpp" and ord(c) < 0x80:
        return f"\\{ord(c):03o}"
    return f"\\u{ord(c):04x}"


def plain(text: str, others: Collection[str] = " .+@()-") -> str:
    """A text for comments: what could end one is gone."""
    return "".join(c if c.isalnum() or c in others or c == "_" else "_" for c in text)
