//! Who may do what, and which answer belongs to whom: pure, one owner.
