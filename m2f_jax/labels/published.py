"""The classes of the data sets that published models were trained on."""

from collections.abc import Mapping
from pathlib import Path

from m2f_jax.labels.label import Label, things


def published_labels(num_classes: int) -> tuple[Label, ...] | None:
    """Returns the classes of the published image models that have `num_classes`; None if none do.

    No two of these sets of classes have the same number. A model trained on other data may have
    the same number by chance.
    """
    return _PUBLISHED.get(num_classes)


def _parse(text: str) -> tuple[Label, ...]:
    """Parses entries "id name" between semicolons; a star before the name marks a thing."""
    labels = []
    for entry in text.split(";"):
        number, name = entry.split(maxsplit=1)
        name = " ".join(name.split())  # an entry may run over the end of a line
        labels.append(
            Label(id=int(number), name=name.removeprefix("*"), is_thing=name.startswith("*"))
        )
    return tuple(labels)


# The 19 evaluated classes in the order of their train ids; `id` is the label id in the PNG files.
CITYSCAPES = _parse("""
    7 road; 8 sidewalk; 11 building; 12 wall; 13 fence; 17 pole; 19 traffic light; 20 traffic sign;
    21 vegetation; 22 terrain; 23 sky; 24 *person; 25 *rider; 26 *car; 27 *truck; 28 *bus;
    31 *train; 32 *motorcycle; 33 *bicycle
""")

# The 133 panoptic classes: 80 things, then 53 stuff; `id` is the category id in the JSON files.
COCO = _parse("""
    1 *person; 2 *bicycle; 3 *car; 4 *motorcycle; 5 *airplane; 6 *bus; 7 *train; 8 *truck; 9 *boat;
    10 *traffic light; 11 *fire hydrant; 13 *stop sign; 14 *parking meter; 15 *bench; 16 *bird;
    17 *cat; 18 *dog; 19 *horse; 20 *sheep; 21 *cow; 22 *elephant; 23 *bear; 24 *zebra; 25 *giraffe;
    27 *backpack; 28 *umbrella; 31 *handbag; 32 *tie; 33 *suitcase; 34 *frisbee; 35 *skis;
    36 *snowboard; 37 *sports ball; 38 *kite; 39 *baseball bat; 40 *baseball glove; 41 *skateboard;
    42 *surfboard; 43 *tennis racket; 44 *bottle; 46 *wine glass; 47 *cup; 48 *fork; 49 *knife;
    50 *spoon; 51 *bowl; 52 *banana; 53 *apple; 54 *sandwich; 55 *orange; 56 *broccoli; 57 *carrot;
    58 *hot dog; 59 *pizza; 60 *donut; 61 *cake; 62 *chair; 63 *couch; 64 *potted plant; 65 *bed;
    67 *dining table; 70 *toilet; 72 *tv; 73 *laptop; 74 *mouse; 75 *remote; 76 *keyboard;
    77 *cell phone; 78 *microwave; 79 *oven; 80 *toaster; 81 *sink; 82 *refrigerator; 84 *book;
    85 *clock; 86 *vase; 87 *scissors; 88 *teddy bear; 89 *hair drier; 90 *toothbrush;
    92 banner; 93 blanket; 95 bridge; 100 cardboard; 107 counter; 109 curtain; 112 door-stuff;
    118 floor-wood; 119 flower; 122 fruit; 125 gravel; 128 house; 130 light; 133 mirror-stuff;
    138 net; 141 pillow; 144 platform; 145 playingfield; 147 railroad; 148 river; 149 road;
    151 roof; 154 sand; 155 sea; 156 shelf; 159 snow; 161 stairs; 166 tent; 168 towel;
    171 wall-brick; 175 wall-stone; 176 wall-tile; 177 wall-wood; 178 water-other;
    180 window-blind; 181 window-other; 184 tree-merged; 185 fence-merged; 186 ceiling-merged;
    187 sky-other-merged; 188 cabinet-merged; 189 table-merged; 190 floor-other-merged;
    191 pavement-merged; 192 mountain-merged; 193 grass-merged; 194 dirt-merged; 195 paper-merged;
    196 food-other-merged; 197 building-other-merged; 198 rock-merged; 199 wall-other-merged;
    200 rug-merged
""")

# The 150 classes of the scene parsing challenge; `id` is the position, one less than in the PNGs.
ADE20K = _parse("""
    0 wall; 1 building; 2 sky; 3 floor; 4 tree; 5 ceiling; 6 road, route; 7 *bed; 8 *window;
    9 grass; 10 *cabinet; 11 sidewalk, pavement; 12 *person; 13 earth, ground; 14 *door; 15 *table;
    16 mountain, mount; 17 plant; 18 *curtain; 19 *chair; 20 *car; 21 water; 22 *painting, picture;
    23 *sofa; 24 *shelf; 25 house; 26 sea; 27 *mirror; 28 rug; 29 field; 30 *armchair; 31 *seat;
    32 *fence; 33 *desk; 34 rock, stone; 35 *wardrobe, closet, press; 36 *lamp; 37 *tub; 38 *rail;
    39 *cushion; 40 base, pedestal, stand; 41 *box; 42 *column, pillar; 43 *signboard, sign;
    44 *chest of drawers, chest, bureau, dresser; 45 *counter; 46 sand; 47 *sink; 48 skyscraper;
    49 *fireplace; 50 *refrigerator, icebox; 51 grandstand, covered stand; 52 path; 53 *stairs;
    54 runway; 55 *case, display case, showcase, vitrine;
    56 *pool table, billiard table, snooker table; 57 *pillow; 58 *screen door, screen;
    59 stairway, staircase; 60 river; 61 bridge, span; 62 *bookcase; 63 blind, screen;
    64 *coffee table; 65 *toilet, can, commode, crapper, pot, potty, stool, throne; 66 *flower;
    67 *book; 68 hill; 69 *bench; 70 *countertop; 71 *stove; 72 *palm, palm tree;
    73 *kitchen island; 74 *computer; 75 *swivel chair; 76 *boat; 77 bar; 78 *arcade machine;
    79 hovel, hut, hutch, shack, shanty; 80 *bus; 81 *towel; 82 *light; 83 *truck; 84 tower;
    85 *chandelier; 86 *awning, sunshade, sunblind; 87 *street lamp; 88 *booth; 89 *tv; 90 *plane;
    91 dirt track; 92 *clothes; 93 *pole; 94 land, ground, soil;
    95 *bannister, banister, balustrade, balusters, handrail;
    96 escalator, moving staircase, moving stairway; 97 *ottoman, pouf, pouffe, puff, hassock;
    98 *bottle; 99 buffet, counter, sideboard; 100 poster, posting, placard, notice, bill, card;
    101 stage; 102 *van; 103 *ship; 104 *fountain;
    105 conveyer belt, conveyor belt, conveyer, conveyor, transporter; 106 canopy;
    107 *washer, automatic washer, washing machine; 108 *plaything, toy; 109 pool; 110 *stool;
    111 *barrel, cask; 112 *basket, handbasket; 113 falls; 114 tent; 115 *bag;
    116 *minibike, motorbike; 117 cradle; 118 *oven; 119 *ball; 120 *food, solid food;
    121 *step, stair; 122 tank, storage tank; 123 *trade name; 124 *microwave; 125 *pot;
    126 *animal; 127 *bicycle; 128 lake; 129 *dishwasher; 130 *screen; 131 blanket, cover;
    132 *sculpture; 133 *hood, exhaust hood; 134 *sconce; 135 *vase; 136 *traffic light; 137 *tray;
    138 *trash can; 139 *fan; 140 pier; 141 crt screen; 142 *plate; 143 *monitor;
    144 *bulletin board; 145 shower; 146 *radiator; 147 *glass, drinking glass; 148 *clock;
    149 *flag
""")

# The 65 evaluated classes of version 1.2; `id` is the authors' category id, position plus one.
MAPILLARY_VISTAS = _parse("""
    1 *Bird; 2 *Ground Animal; 3 Curb; 4 Fence; 5 Guard Rail; 6 Barrier; 7 Wall; 8 Bike Lane;
    9 *Crosswalk - Plain; 10 Curb Cut; 11 Parking; 12 Pedestrian Area; 13 Rail Track; 14 Road;
    15 Service Lane; 16 Sidewalk; 17 Bridge; 18 Building; 19 Tunnel; 20 *Person; 21 *Bicyclist;
    22 *Motorcyclist; 23 *Other Rider; 24 *Lane Marking - Crosswalk; 25 Lane Marking - General;
    26 Mountain; 27 Sand; 28 Sky; 29 Snow; 30 Terrain; 31 Vegetation; 32 Water; 33 *Banner;
    34 *Bench; 35 *Bike Rack; 36 *Billboard; 37 *Catch Basin; 38 *CCTV Camera; 39 *Fire Hydrant;
    40 *Junction Box; 41 *Mailbox; 42 *Manhole; 43 *Phone Booth; 44 Pothole; 45 *Street Light;
    46 *Pole; 47 *Traffic Sign Frame; 48 *Utility Pole; 49 *Traffic Light; 50 *Traffic Sign (Back);
    51 *Traffic Sign (Front); 52 *Trash Can; 53 *Bicycle; 54 *Boat; 55 *Bus; 56 *Car; 57 *Caravan;
    58 *Motorcycle; 59 On Rails; 60 *Other Vehicle; 61 *Trailer; 62 *Truck; 63 *Wheeled Slow;
    64 Car Mount; 65 Ego Vehicle
""")

# The 171 classes of COCO-Stuff 10k: COCO's things, then 91 of stuff. The maps that the authors'
# script makes hold a class's position; `id` is COCO-Stuff's own number.
COCO_STUFF = things(COCO) + _parse("""
    92 banner; 93 blanket; 94 branch; 95 bridge; 96 building-other; 97 bush; 98 cabinet; 99 cage;
    100 cardboard; 101 carpet; 102 ceiling-other; 103 ceiling-tile; 104 cloth; 105 clothes;
    106 clouds; 107 counter; 108 cupboard; 109 curtain; 110 desk-stuff; 111 dirt; 112 door-stuff;
    113 fence; 114 floor-marble; 115 floor-other; 116 floor-stone; 117 floor-tile; 118 floor-wood;
    119 flower; 120 fog; 121 food-other; 122 fruit; 123 furniture-other; 124 grass; 125 gravel;
    126 ground-other; 127 hill; 128 house; 129 leaves; 130 light; 131 mat; 132 metal;
    133 mirror-stuff; 134 moss; 135 mountain; 136 mud; 137 napkin; 138 net; 139 paper;
    140 pavement; 141 pillow; 142 plant-other; 143 plastic; 144 platform; 145 playingfield;
    146 railing; 147 railroad; 148 river; 149 road; 150 rock; 151 roof; 152 rug; 153 salad;
    154 sand; 155 sea; 156 shelf; 157 sky-other; 158 skyscraper; 159 snow; 160 solid-other;
    161 stairs; 162 stone; 163 straw; 164 structural-other; 165 table; 166 tent;
    167 textile-other; 168 towel; 169 tree; 170 vegetable; 171 wall-brick; 172 wall-concrete;
    173 wall-other; 174 wall-panel; 175 wall-stone; 176 wall-tile; 177 wall-wood; 178 water-other;
    179 waterdrops; 180 window-blind; 181 window-other; 182 wood
""")

# The 847 classes that the authors take from the full ADE20K, a name per line; `id` is the position,
# as in the maps that their script makes. They are for semantic segmentation alone, so nothing says
# which ones are things.
ADE20K_FULL = tuple(
    Label(id=k, name=name, is_thing=False)
    for k, name in enumerate(
        Path(__file__).with_name("ade20k_full.txt").read_text("utf-8").splitlines()
    )
)

# The 40 classes of each year of YouTubeVIS: things, in lists of their own.
YOUTUBEVIS_2019 = _parse("""
    1 *person; 2 *giant_panda; 3 *lizard; 4 *parrot; 5 *skateboard; 6 *sedan; 7 *ape; 8 *dog;
    9 *snake; 10 *monkey; 11 *hand; 12 *rabbit; 13 *duck; 14 *cat; 15 *cow; 16 *fish; 17 *train;
    18 *horse; 19 *turtle; 20 *bear; 21 *motorbike; 22 *giraffe; 23 *leopard; 24 *fox; 25 *deer;
    26 *owl; 27 *surfboard; 28 *airplane; 29 *truck; 30 *zebra; 31 *tiger; 32 *elephant;
    33 *snowboard; 34 *boat; 35 *shark; 36 *mouse; 37 *frog; 38 *eagle; 39 *earless_seal;
    40 *tennis_racket
""")
YOUTUBEVIS_2021 = _parse("""
    1 *airplane; 2 *bear; 3 *bird; 4 *boat; 5 *car; 6 *cat; 7 *cow; 8 *deer; 9 *dog; 10 *duck;
    11 *earless_seal; 12 *elephant; 13 *fish; 14 *flying_disc; 15 *fox; 16 *frog; 17 *giant_panda;
    18 *giraffe; 19 *horse; 20 *leopard; 21 *lizard; 22 *monkey; 23 *motorbike; 24 *mouse;
    25 *parrot; 26 *person; 27 *rabbit; 28 *shark; 29 *skateboard; 30 *snake; 31 *snowboard;
    32 *squirrel; 33 *surfboard; 34 *tennis_racket; 35 *tiger; 36 *train; 37 *truck; 38 *turtle;
    39 *whale; 40 *zebra
""")

NAMED_LABELS: Mapping[str, tuple[Label, ...]] = {
    "cityscapes": CITYSCAPES,
    "coco": COCO,
    "coco-stuff": COCO_STUFF,
    "ade20k": ADE20K,
    "ade20k-full": ADE20K_FULL,
    "mapillary": MAPILLARY_VISTAS,
    "youtubevis-2019": YOUTUBEVIS_2019,
    "youtubevis-2021": YOUTUBEVIS_2021,
}

_PUBLISHED = {
    len(labels): labels
    for labels in (
        things(CITYSCAPES),
        CITYSCAPES,
        things(COCO),
        COCO,
        things(ADE20K),
        ADE20K,
        MAPILLARY_VISTAS,
        COCO_STUFF,
        ADE20K_FULL,
    )
}
