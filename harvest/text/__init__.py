"""From paths and URLs to documents: `sources`, then `file_formats`, then `documents`."""
