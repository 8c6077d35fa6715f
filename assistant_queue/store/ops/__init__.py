"""Operations on the store, one module per subject."""
