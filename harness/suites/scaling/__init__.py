"""What more ranks bring: groups of one, two, four, ... processes that train one network, measured in turn."""
