//! Message headers in Forebay's own encoding, and the arguments of a headers binding.
