"""What a visitor can do, written once for the pages and the API, and how a reply is made."""
