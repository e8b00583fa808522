"""Points for what customers paid, given back for what was cancelled."""
