"""What the bridge keeps on disk: its journal of writes. Nothing here makes or looks for one."""
