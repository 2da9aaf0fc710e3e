//! Looks at accounts, whole: the routes with everything around them, on a real database. What a look shows and what not,
//! that it changes nothing and calls nobody, and that nobody sees of a person what they may not.

mod canaries;
mod crawl;
mod world;
