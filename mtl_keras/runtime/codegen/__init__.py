"""Code generation: an application's call of one exported file, in the languages of applications."""

from mtl_keras.runtime.codegen.snippets import LANGUAGES, snippets
from mtl_keras.runtime.codegen.web_page import web_page

__all__ = ["LANGUAGES", "snippets", "web_page"]
