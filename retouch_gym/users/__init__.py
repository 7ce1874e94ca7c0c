"""Users: who looks at the result of a turn and says what is wanted next."""

from retouch_gym.users.base import USERS, User, get_user
from retouch_gym.users.scripted import ScriptedUser

__all__ = ["USERS", "ScriptedUser", "User", "get_user"]
