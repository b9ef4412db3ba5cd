/tmp/tmp.GmWmFsTrGh
