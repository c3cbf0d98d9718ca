"""What `make check-tools` runs: each module has the tool that it is named after read, serve or show what a run wrote.

A module has `TITLE` (one line), `ENVIRONMENTS` (name -> pip requirements, exact versions; {} for none), `PACKAGES`
(whose versions are printed) and `check(place: Place) -> list[Figure]`. Scripts that run in another environment lie in
`inside/`: beside modules named after tools, Python would import those in the tools' place.
"""
