//! Tests of the whole: the repository's own rules, and the programs run together.
//! Does not own what one crate can test by itself.

mod crashes;
mod fleet;
mod life;
mod new_servant;
mod operator;
mod organisation;
mod tidy;
