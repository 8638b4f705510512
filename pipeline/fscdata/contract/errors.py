"""The one error that a user sees."""


class FsckitError(ValueError):
    """A mistake of the user's or of their files: one sentence that names the file and the mend.

    Both commands print its text and exit with 1; anything else that is raised is our own defect.
    """
