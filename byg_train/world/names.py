"""The words of the tiny world: subjects, colours, grounds, styles, corners.

Each subject is one emoji of the Fluent family, written as `word=codepoint-name` where the word a
caption uses differs from the short name that emoji-datasource gives the picture.
"""

from __future__ import annotations

STYLES = ("3d", "flat", "ink")
STYLE_PHRASE = {"3d": "3d render", "flat": "flat icon", "ink": "ink drawing"}

# Colour word -> RGB. Grounds and tinted subjects share the words, never in one scene.
COLOURS = {
    "red": (222, 52, 52),
    "orange": (245, 140, 35),
    "yellow": (250, 212, 60),
    "green": (70, 175, 80),
    "blue": (55, 115, 225),
    "purple": (145, 80, 200),
    "pink": (246, 150, 190),
    "gray": (150, 155, 162),
    "white": (246, 246, 246),
}
TINTS = ("red", "orange", "yellow", "green", "blue", "purple")
PATTERNS = ("plain", "striped", "dotted", "checkered")
CORNERS = ("top left", "top right", "bottom left", "bottom right")

# Small second objects. They are never held out: "add a small star" must name what the base knows.
EXTRAS = ("star", "heart", "sun", "moon", "flower", "leaf", "drop", "key", "bell", "cloud")

_NAMES = """
hotdog taco corn tomato eggplant grapes melon watermelon tangerine lemon banana pineapple apple
pear peach cherries strawberry hamburger pizza bread fries sushi doughnut cookie candy lollipop
cake popcorn beer croissant avocado cucumber carrot broccoli pretzel sandwich mango coconut
cupcake garlic onion waffle kiwi=kiwifruit pancakes egg olive blueberries icecream coffee tea
pudding=custard teapot pie bagel potato
snail octopus butterfly bee ladybug fish turtle bird penguin koala dolphin mouse cow tiger rabbit
cat whale horse dog pig frog hamster bear panda=panda_face monkey=monkey_face fox=fox_face owl
duck eagle shark crab spider lion=lion_face unicorn=unicorn_face hedgehog sheep elephant crocodile
bat scorpion snake squid shrimp lobster parrot swan flamingo llama camel kangaroo gorilla deer
rooster chicken chick=hatched_chick seashell=shell ant wolf seal sloth otter beaver peacock
cactus tulip rose sunflower hibiscus mushroom pine=evergreen_tree palm=palm_tree
tree=deciduous_tree seedling maple=maple_leaf clover=four_leaf_clover
rocket helicopter bus ambulance taxi car truck tractor ship boat bicycle=bike airplane house
castle=european_castle church tent volcano mountain rainbow snowman umbrella anchor fountain train
scooter ufo=flying_saucer planet=ringed_planet clock=alarm_clock hourglass fire
lightning=zap snowflake suitcase=luggage compass
guitar trumpet violin crown tophat glasses=eyeglasses shirt dress boot heel=high_heel ring gem
bulb bomb moneybag computer book scroll box=package camera tv radio battery lock hammer wrench
microscope telescope candle magnet scissors pencil=pencil2 gear shield chair bed door bathtub
bucket broom basket sponge soap ladder toilet cart=shopping_trolley phone trophy balloon gift
football=soccer basketball dartboard=dart dice=game_die teddy=teddy_bear kite ticket yarn
joystick medal headphones microphone lipstick pill saxophone sandal backpack=school_satchel axe
coin mirror feather
star heart=hearts sun=sunny moon=crescent_moon flower=cherry_blossom leaf=leaves drop=droplet key
bell cloud
"""
# Every name in the pictures; those that are neither known nor held out serve as distractors when a
# true counterpart has to be found among others.
SHORT_NAME = {w.split("=")[0]: w.split("=")[-1] for w in _NAMES.split()}
SUBJECTS = tuple(n for n in SHORT_NAME if n not in EXTRAS)
# Names whose ink drawing is an outline (at most 65 % black) of the same silhouette as the 3d render
# (IoU at least 0.75). For others, nobody could tell from the render what the drawing looks like.
_KNOWN = """
egg tangerine pear peach dress balloon swan bread book melon elephant lock moneybag rabbit taco
pig sheep battery snail cat eggplant seashell chicken frog monkey tomato octopus scroll bird
fish panda penguin bucket avocado onion camel koala bulb gem clover fox parrot tiger pine door box
hotdog pizza shirt shark football strawberry beer carrot duck bicycle mountain coffee truck lion
butterfly owl gift glasses
corn lemon fries popcorn broccoli mango garlic kiwi pancakes olive blueberries tea pudding pie
potato mouse cow hamster crocodile rooster chick wolf sloth otter beaver tulip rose sunflower
hibiscus mushroom seedling maple rocket taxi car rainbow hourglass fire compass radio hammer
candle pencil gear chair bathtub basket sponge soap toilet dice ticket coin feather
"""
KNOWN = tuple(_KNOWN.split())
# No base, LoRA or instrument is ever trained on a picture of these.
_HELD_OUT = """
basketball croissant cookie icecream bagel sandwich seal dolphin whale palm snowman crown
tractor mirror pineapple shield
"""
HELD_OUT = tuple(_HELD_OUT.split())
