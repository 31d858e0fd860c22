"""Where roots come from. They are trusted because somebody put them there, never by a CA's word."""
