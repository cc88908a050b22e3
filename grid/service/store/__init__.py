"""The only user of the database: what is stored (`tables`), the connection (`database`), and statements by noun."""
