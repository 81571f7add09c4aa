"""YAML with nothing but lists, mappings and text: no numbers, dates, tags or aliases, and no key twice.

A name stays as it was written (`010` is no 8, `on` no truth), no value can fail to be made, and no alias multiplies
what it names. Not here: what the values mean.
"""

from pathlib import Path
from typing import Any

import yaml

from signal_pipeline.errors import SettingsError


class _PlainLoader(yaml.BaseLoader):
    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not read")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        found = super().construct_mapping(node, deep=deep)
        if len(found) < len(node.value):
            raise yaml.constructor.ConstructorError(None, None, "a key stands more than once", node.start_mark)
        return found


def load_plain(text: str, file: Path) -> Any:
    """Lists, mappings and strings. Raises `SettingsError` naming the file, and the place where there is one."""
    try:
        return _PlainLoader(text).get_single_data()
    except yaml.YAMLError as error:
        raise SettingsError(f"{file} is not YAML: {error}") from error
    except RecursionError as error:
        raise SettingsError(f"{file} is nested too deeply for a list of motors") from error
