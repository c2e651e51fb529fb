"""`security/privileges.md`: what each process has and may, read off processes that run.

    python -m security.privileges        as root: starts one machine in each layout, reads, and writes the file

`calls` renders the profiles, `asked` makes a live process answer, `questions` says what it is asked, `facts` reads all
of it, `document` is the text. tests/e2e/test_privileges.py reads again and compares; of the profiles' table,
tests/unit/privhelper/test_profiles_document.py does so without root.
"""

from pathlib import Path
from typing import Final

REWRITE: Final = "python -m security.privileges"
"""What writes the file anew, as root."""
FILE: Final = Path(__file__).parent.with_suffix(".md")
