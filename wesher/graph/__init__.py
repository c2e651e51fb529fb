"""`wesher graph`: what the daemon's answer says of who sees whom, as text, as a DOT file, or as a drawing."""
