"""The only user of the database: what is kept (`tables`), how it is reached (`database`), and statements by noun."""
