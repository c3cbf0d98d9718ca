"""One style, charts, the paper's figures, tables, and replies as HTML."""
