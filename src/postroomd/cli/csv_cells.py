"""CSV cells that a spreadsheet does not run as formulas."""

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""The first characters that make spreadsheets take a cell for a formula (OWASP, CSV injection)."""


def escape_formula(cell: str) -> str:
    """Return a cell that spreadsheets show as text: an apostrophe is put before a formula."""
    return f"'{cell}" if cell.lstrip("'").startswith(FORMULA_STARTS) else cell


def unescape_formula(cell: str) -> str:
    """Return the cell that `escape_formula` was given, which may itself have begun with apostrophes."""
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(FORMULA_STARTS) else cell
