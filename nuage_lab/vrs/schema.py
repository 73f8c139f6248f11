"""The Nuage tables, merged into the schema of the installed Open vSwitch (vrs §2, §3, §10)."""

import json
from pathlib import Path

TABLES = json.loads((Path(__file__).parent / "nuage_tables.json").read_text())


def merged_schema(stock):
    """Return the text of a stock vswitch.ovsschema with the Nuage tables added.

    As in the contract, these have no index.
    """
    schema = json.loads(stock)
    schema["tables"].update(TABLES)
    schema.pop("cksum", None)
    return json.dumps(schema, indent=1)
